"""The peers that a step's processes contact: each other, services of the platform, or others."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kommuna.processes import tree_of
from kommuna.runtime.call_listener import Connected
from kommuna.spec.step import StepSpec

_SYSTEM_SOCKETS = ("/var/run/nscd/", "/run/nscd/", "/dev/log", "/run/systemd/", "/var/run/dbus/", "/run/dbus/")
_OWN_NAMES = ("localhost", "ip6-localhost", "0.0.0.0", "::", "")  # of this machine
_NAMES_PORT = 53


class Peers:
    """Collects the peers that a process and its children contact."""

    def __init__(self, spec: StepSpec) -> None:
        self._spec = spec
        self._recorded: set[Connected] = set()
        self.process = 0

    def record(self, peer: Connected) -> None:
        """Records a peer that is not one of the step's own processes, whether or not it answers."""
        if not peer.port and peer.host.startswith(_SYSTEM_SOCKETS):
            return
        is_here = not peer.port or _is_loopback(peer.host)
        if not (is_here and _has_socket(self.process, peer)):
            self._recorded.add(peer)

    def foreign(self, hosts: Collection[str], *, has_clients: bool) -> list[str]:
        """Returns the peers that are not services of the platform, and the host names looked up for them.

        Args:
            hosts: host names that the step looked up.
            has_clients: whether the step has a client of the platform's services.
        """
        services = list(_service_addresses(self._spec)) if has_clients else []
        own = {socket.gethostname().lower(), *_OWN_NAMES, *(host for host, _ in services)}
        looked_up = [host for host in hosts if host not in own and not _is_loopback(host)]
        if not self._recorded:
            return sorted(looked_up)
        allowed = {(address, port) for host, port in services for address in _addresses(host)}
        if hosts or has_clients:  # the looked-up names are known
            allowed |= {(server, _NAMES_PORT) for server in _name_servers()}
        foreign = [peer for peer in self._recorded if (peer.host, peer.port) not in allowed]
        names = {address: host for host in hosts for address in _addresses(host)} if foreign else {}
        names_asked = {f"{names.get(peer.host, peer.host)}{f':{peer.port}' if peer.port else ''}" for peer in foreign}
        return sorted(names_asked | (set(looked_up) - {names.get(peer.host) for peer in foreign}))


def _service_addresses(spec: StepSpec) -> Iterator[tuple[str, int]]:
    """Host and port of every service that the step's clients may contact."""
    services = spec.services
    llms = services.llm.endpoints.values()
    urls = [services.mlflow, *(endpoint.url for endpoint in llms), *(endpoint.proxy for endpoint in llms)]
    urls += [str(value) for value in _texts(spec.store.options) if "://" in value]
    urls += [value for name, value in os.environ.items() if name.lower().endswith("_proxy") and "://" in value]
    for url in urls:
        parts = urlsplit(url)
        if parts.hostname:
            yield parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def _addresses(host: str) -> Iterator[str]:
    """The IP addresses of a name."""
    with contextlib.suppress(OSError):
        yield from {str(address[0]) for *_, address in socket.getaddrinfo(host, None)}


def _name_servers() -> Iterator[str]:
    """The addresses of this machine's name servers."""
    yield "127.0.0.1"  # where none is configured
    with contextlib.suppress(OSError):
        for line in Path("/etc/resolv.conf").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("nameserver"):
                yield from line.split()[1:2]


def _is_loopback(host: str) -> bool:
    return host.startswith("127.") or host == "::1"


def _has_socket(process: int, peer: Connected) -> bool:
    """Whether the peer is one of a process's descendants: Spark's gateway, a pool of workers."""
    inodes = {f"socket:[{inode}]" for inode in (_of_ports(peer) if peer.port else _of_paths(peer))}
    return any(_descriptors(pid) & inodes for pid in tree_of(process)) if inodes else False


def _of_ports(peer: Connected) -> Iterator[str]:
    """Inodes of the sockets that receive at a port."""
    kind, state = ("udp", "07") if peer.sends else ("tcp", "0A")
    for table in (f"/proc/net/{kind}", f"/proc/net/{kind}6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == state and int(columns[1].rpartition(":")[2], 16) == peer.port:
                    yield columns[9]


def _of_paths(peer: Connected) -> Iterator[str]:
    """Inodes of this machine's Unix sockets with the peer's path or name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/unix").read_text(encoding="utf-8", errors="surrogateescape").splitlines()[1:]:
            columns = line.split(None, 7)
            if columns[7:] == [peer.host]:
                yield columns[6]


def _descriptors(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208
            with contextlib.suppress(OSError):
                found.add(os.readlink(f"/proc/{pid}/fd/{name}"))  # noqa: PTH115
    return found

"""Whom a step's processes asked: each other, services of the platform, or anyone else."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kommuna.runtime.limits import family
from kommuna.runtime.opens import Connected
from kommuna.spec.step import StepSpec

_SYSTEM_SOCKETS = ("/var/run/nscd/", "/run/nscd/", "/dev/log", "/run/systemd/", "/var/run/dbus/", "/run/dbus/")
_OWN_NAMES = ("localhost", "ip6-localhost", "0.0.0.0", "::", "")  # of this machine
_NAMES_PORT = 53


class Peers:
    """Collects the peers of a process and its children."""

    def __init__(self, spec: StepSpec) -> None:
        self._spec = spec
        self._heard: set[Connected] = set()
        self.process = 0

    def heard(self, peer: Connected) -> None:
        """Notes a peer that is none of the step's own processes, be the answer what it may."""
        if not peer.port and peer.host.startswith(_SYSTEM_SOCKETS):
            return
        is_here = not peer.port or _is_loopback(peer.host)
        if not (is_here and _has_socket(self.process, peer)):
            self._heard.add(peer)

    def foreign(self, hosts: Collection[str], *, has_clients: bool) -> list[str]:
        """Peers that are no service of the platform, by the names that the step asked for, and such names themselves.

        Args:
            hosts: names that the step looked up.
            has_clients: whether it was given a client of the platform's services.
        """
        services = list(_service_addresses(self._spec)) if has_clients else []
        own = {socket.gethostname().lower(), *_OWN_NAMES, *(host for host, _ in services)}
        asked = [host for host in hosts if host not in own and not _is_loopback(host)]
        if not self._heard:
            return sorted(asked)
        allowed = {(address, port) for host, port in services for address in _addresses(host)}
        if hosts or has_clients:  # the names that these were asked for are known
            allowed |= {(server, _NAMES_PORT) for server in _name_servers()}
        foreign = [peer for peer in self._heard if (peer.host, peer.port) not in allowed]
        names = {address: host for host in hosts for address in _addresses(host)} if foreign else {}
        said = {f"{names.get(peer.host, peer.host)}{f':{peer.port}' if peer.port else ''}" for peer in foreign}
        return sorted(said | (set(asked) - {names.get(peer.host) for peer in foreign}))


def _service_addresses(spec: StepSpec) -> Iterator[tuple[str, int]]:
    """Host and port of everything that the step's clients may ask."""
    services = spec.services
    urls = [services.mlflow, *(endpoint.url for endpoint in (services.llm.light, services.llm.heavy) if endpoint)]
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
    """The addresses that this machine asks for names."""
    yield "127.0.0.1"  # where none is said
    with contextlib.suppress(OSError):
        for line in Path("/etc/resolv.conf").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("nameserver"):
                yield from line.split()[1:2]


def _is_loopback(host: str) -> bool:
    return host.startswith("127.") or host == "::1"


def _has_socket(process: int, peer: Connected) -> bool:
    """Whether one of a process's family is the peer on this machine: Spark's gateway, a pool of workers."""
    inodes = {f"socket:[{inode}]" for inode in (_of_ports(peer) if peer.port else _of_paths(peer))}
    return any(_descriptors(pid) & inodes for pid in family(process)) if inodes else False


def _of_ports(peer: Connected) -> Iterator[str]:
    """Inodes of the sockets that take what is sent to a port."""
    kind, state = ("udp", "07") if peer.sends else ("tcp", "0A")
    for table in (f"/proc/net/{kind}", f"/proc/net/{kind}6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == state and int(columns[1].rpartition(":")[2], 16) == peer.port:
                    yield columns[9]


def _of_paths(peer: Connected) -> Iterator[str]:
    """Inodes of the sockets of this machine that have a path or name."""
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

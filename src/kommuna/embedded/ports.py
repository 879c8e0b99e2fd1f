"""Checks that ports are free, or finds the process that uses them."""

from __future__ import annotations

import contextlib
import socket

import psutil

from kommuna.embedded.leftovers import STATE_VARIABLE
from kommuna.errors import PlatformFault


def require_free(ports: dict[str, int]) -> None:
    """Checks that each port can be bound on the loopback interface.

    Args:
        ports: ports by server (a key of `ports:` in kommuna.yaml).

    Raises:
        PlatformFault: two servers have the same port, or a port is taken; the error names the process that uses it.
    """
    if len(set(ports.values())) < len(ports):
        raise PlatformFault(
            f"{' and '.join(ports)} have the same port {next(iter(ports.values()))}",
            where="kommuna.yaml: ports",
            fix="give each its own port",
        )
    for name, port in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except PermissionError:
                raise PlatformFault(
                    f"port {port}, which {name} needs, may not be opened by this user",
                    where=f"kommuna.yaml: ports.{name}",
                    fix="choose a port above 1023",
                ) from None
            except OSError:
                raise PlatformFault(
                    f"port {port}, which {name} needs, is taken by {_holder(port)}",
                    where=f"kommuna.yaml: ports.{name}",
                    fix=f"end that process, or set ports.{name} in kommuna.yaml",
                ) from None


def _holder(port: int) -> str:
    """Describes the process that listens on a port, as far as this user may see it."""
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and getattr(connection.laddr, "port", 0) == port
            if listens and connection.pid:
                process = psutil.Process(connection.pid)
                command = " ".join(process.cmdline())[:80] or process.name()
                state = process.environ().get(STATE_VARIABLE)
                platform = f", of the platform whose state is in {state}" if state else ""
                return f"process {connection.pid} ({command}){platform}"
    return "a process of another user"

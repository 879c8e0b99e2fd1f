"""Ports are free, or the process that uses them is named."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from kommuna.embedded.ports import require_free
from kommuna.errors import PlatformFault


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as uvicorn does
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield held


def test_free_ports_are_accepted(free_port: Callable[[], int]) -> None:
    require_free({"airflow": free_port(), "mlflow": free_port()})


def test_a_taken_port_names_the_process_and_the_setting(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with pytest.raises(PlatformFault) as caught:
        require_free({"mlflow": port})
    assert caught.value.what.startswith(f"port {port}, which mlflow needs, is taken by process {os.getpid()} (")
    assert "set ports.mlflow in kommuna.yaml" in caught.value.fix


def test_a_port_of_another_platform_names_that_platforms_state(free_port: Callable[[], int]) -> None:
    port = free_port()
    code = f"import socket; s = socket.create_server(('127.0.0.1', {port})); print('.', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "KOMMUNA_STATE": "/elsewhere/.kommuna"},
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(PlatformFault, match=r"of the platform whose state is in /elsewhere/\.kommuna"):
            require_free({"airflow": port})
        holder.kill()


def test_a_port_just_closed_is_free_even_while_its_connections_fade(listener: socket.socket) -> None:
    address = listener.getsockname()
    with socket.create_connection(address):
        served, _ = listener.accept()
        served.close()
    listener.close()
    require_free({"airflow": address[1]})


def test_one_port_for_two_servers_is_refused(free_port: Callable[[], int]) -> None:
    port = free_port()
    with pytest.raises(PlatformFault, match=f"airflow and mlflow have the same port {port}"):
        require_free({"airflow": port, "mlflow": port})

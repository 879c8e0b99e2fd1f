"""Runs a PostgreSQL server in a temporary state folder, as the platform does."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kommuna.embedded.database import databases, server
from kommuna.embedded.sockets import remove_sockets_folder

Start = Callable[[Path], "subprocess.Popen[bytes]"]


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    """Starts the server of a state folder, and ends it with the tests."""
    started: list[tuple[Path, subprocess.Popen[bytes]]] = []

    def one(state: Path) -> subprocess.Popen[bytes]:
        with (state / "postgres.log").open("ab") as log:
            process = subprocess.Popen(server.command(state), stdout=log, stderr=log, cwd=state)
        started.append((state, process))

        def still_starting() -> None:
            assert process.poll() is None, (state / "postgres.log").read_text()

        databases.wait_until_ready(state, still_starting)
        return process

    yield one
    for state, process in started:
        server.stop_orphan(state)
        process.wait(timeout=30)
        remove_sockets_folder(state)


@pytest.fixture(scope="module")
def running(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder, whose path is longer than a socket's may be, and whose server runs."""
    state = tmp_path_factory.mktemp("state #1, 100%") / ("x" * 120)
    state.mkdir()
    server.make(state)
    start(state)
    return state

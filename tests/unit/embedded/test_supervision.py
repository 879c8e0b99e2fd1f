"""supervisord reads the configuration correctly, and reports the state of its processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from kommuna.embedded import supervision
from kommuna.embedded.leftovers import STATE_VARIABLE, end_all, marked
from kommuna.embedded.sockets import remove_sockets_folder
from kommuna.waiting import wait_until

SLEEP = [sys.executable, "-c", "import time; time.sleep(300)  # 100% ready"]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A state folder whose name has a space, `#` and a percent sign, and whatever runs for it, ended afterwards."""
    path = tmp_path / "my state #1 100%"
    (path / "logs").mkdir(parents=True)
    yield path
    end_all(marked(str(path)))
    remove_sockets_folder(path)


def start(state: Path, **programs: list[str]) -> psutil.Process:
    configuration = supervision.write_configuration(state, programs)
    process = subprocess.Popen(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(configuration)],
        env={**os.environ, STATE_VARIABLE: str(state)},
        cwd=state,
        start_new_session=True,
    )
    wait_until("supervisord answers", lambda: supervision.client(state) is not None, every=0.05)
    return psutil.Process(process.pid)


def until(state: Path, name: str, wanted: str) -> supervision.ProcessState:
    def found() -> supervision.ProcessState | None:
        there = {process.name: process for process in supervision.processes(state)}
        return there[name] if there[name].state == wanted else None

    process = wait_until(f"{name} is {wanted}", found, seconds=60, every=0.05)
    assert process is not None
    return process


def test_a_killed_process_is_restarted_and_the_restart_is_counted(state: Path) -> None:
    start(state, api=SLEEP, other=SLEEP)
    server = supervision.client(state)
    assert {process.state for process in supervision.processes(state)} == {"stopped"}
    server.startProcess("kommuna:api")
    first = until(state, "api", "running")
    assert first.restarts == 0
    assert first.memory > 2**20
    psutil.Process(first.pid).kill()
    wait_until("it is another process", lambda: until(state, "api", "running").pid != first.pid, seconds=20, every=0.05)
    again = until(state, "api", "running")
    assert again.restarts == 1
    assert until(state, "other", "stopped").restarts == 0


@pytest.mark.slow
def test_a_program_that_dies_at_once_ends_as_failed(state: Path) -> None:
    start(state, broken=[sys.executable, "-c", "raise SystemExit('no such thing')"])
    supervision.start_program(supervision.client(state), "broken")
    assert until(state, "broken", "fatal").restarts == 3
    assert "no such thing" in (state / "logs/broken.log").read_text()


def test_shutdown_ends_all_at_once_with_their_children(state: Path) -> None:
    parent = [sys.executable, "-c", "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"]
    supervisord = start(state, one=SLEEP, two=parent)
    for name in ("one", "two"):
        supervision.client(state).startProcess(f"kommuna:{name}")
    supervision.client(state).shutdown()
    supervisord.wait(timeout=30)
    assert marked(str(state)) == []
    assert supervision.client(state) is None
    assert supervision.processes(state) == []


WITNESS = """
import signal, sys, time
def end(*_):
    time.sleep({seconds})
    print(time.time(), flush=True)
    sys.exit()
signal.signal(signal.{signal}, end)
print("ready", flush=True)
time.sleep(300)
"""


@pytest.mark.slow
def test_the_database_is_stopped_last(state: Path) -> None:
    client = [sys.executable, "-c", WITNESS.format(seconds=1, signal="SIGTERM")]
    database = [sys.executable, "-c", WITNESS.format(seconds=0, signal="SIGINT")]
    supervisord = start(state, postgres=database, aaa=client, zzz=client)
    logs = {name: state / f"logs/{name}.log" for name in ("postgres", "aaa", "zzz")}
    for name, log in logs.items():
        supervision.start_program(supervision.client(state), name)
        wait_until(f"{name} is ready", lambda log=log: log.exists() and "ready" in log.read_text(), every=0.05)  # type: ignore[misc]
    supervision.client(state).shutdown()
    supervisord.wait(timeout=60)
    ended = {name: float(log.read_text().split()[1]) for name, log in logs.items()}
    assert ended["postgres"] > max(ended["aaa"], ended["zzz"])

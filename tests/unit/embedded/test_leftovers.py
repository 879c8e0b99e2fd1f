"""Only processes with the platform's mark are found and ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from kommuna.embedded.launch import starts_of
from kommuna.embedded.leftovers import PROGRAM_VARIABLE, STATE_VARIABLE, end_all, marked, memory_bytes

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('.', flush=True); time.sleep(300)"
RENAMED = "import setproctitle, time; setproctitle.setproctitle('x' * 2000); print('.', flush=True); time.sleep(300)"
PLAIN = "import time; print('.', flush=True); time.sleep(300)"


class Crowd:
    """Starts processes, and ends them with the test."""

    def __init__(self) -> None:
        self.members: list[subprocess.Popen[bytes]] = []

    def start(self, code: str, **marks: str) -> subprocess.Popen[bytes]:
        member = subprocess.Popen(
            [sys.executable, "-c", code], env={**os.environ, **marks}, stdout=subprocess.PIPE, start_new_session=True
        )
        self.members.append(member)
        assert member.stdout is not None
        member.stdout.readline()
        return member


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    made = Crowd()
    yield made
    for member in made.members:
        member.kill()
        member.communicate()


def pids(processes: list[psutil.Process]) -> set[int]:
    return {process.pid for process in processes}


def test_only_processes_with_the_mark_are_found(crowd: Crowd, tmp_path: Path) -> None:
    state = str(tmp_path)
    scheduler = crowd.start(PLAIN, **{STATE_VARIABLE: state, PROGRAM_VARIABLE: "scheduler"})
    mlflow = crowd.start(PLAIN, **{STATE_VARIABLE: state, PROGRAM_VARIABLE: "mlflow"})
    crowd.start(PLAIN, **{STATE_VARIABLE: f"{state}2"})
    crowd.start(PLAIN)
    assert pids(marked(state)) == {scheduler.pid, mlflow.pid}
    assert pids(marked(state, program="mlflow")) == {mlflow.pid}


def test_a_process_that_renames_itself_keeps_its_mark(crowd: Crowd, tmp_path: Path) -> None:
    marks = {STATE_VARIABLE: str(tmp_path)}
    renamed = crowd.start(RENAMED, SPT_NOENV="1", **marks)
    assert pids(marked(str(tmp_path))) == {renamed.pid}


def test_a_process_without_its_mark_is_recognised_by_its_parent(crowd: Crowd, tmp_path: Path) -> None:
    bare = "import os, subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'input()'], env={}, stdin=-1); print(p.pid, flush=True); p.wait()"
    parent = crowd.start(PLAIN, **{STATE_VARIABLE: str(tmp_path), PROGRAM_VARIABLE: "postgres"})
    assert pids(marked(str(tmp_path))) == {parent.pid}
    member = subprocess.Popen(
        [sys.executable, "-c", bare],
        env={**os.environ, STATE_VARIABLE: str(tmp_path), PROGRAM_VARIABLE: "postgres"},
        stdout=subprocess.PIPE,
    )
    crowd.members.append(member)
    assert member.stdout is not None
    child = int(member.stdout.readline())
    assert pids(marked(str(tmp_path), program="postgres")) == {parent.pid, member.pid, child}
    assert child not in pids(marked(str(tmp_path), program="scheduler"))


def test_the_caller_and_its_ancestors_are_spared(tmp_path: Path) -> None:
    code = f"""
import subprocess, sys
from kommuna.embedded.leftovers import marked
print(len(marked({str(tmp_path)!r})))
"""
    outer = f"import subprocess, sys; print(subprocess.check_output([sys.executable, '-c', {code!r}], text=True))"
    environment = {**os.environ, STATE_VARIABLE: str(tmp_path)}
    assert subprocess.check_output([sys.executable, "-c", outer], env=environment, text=True).strip() == "0"


def test_a_process_that_ignores_the_signal_is_killed_after_the_grace_period(crowd: Crowd, tmp_path: Path) -> None:
    member = crowd.start(STUBBORN, **{STATE_VARIABLE: str(tmp_path)})
    end_all(marked(str(tmp_path)), grace_seconds=0.3)
    assert member.wait(timeout=10) == -signal.SIGKILL


def test_launch_cleans_up_counts_the_start_and_runs_the_command(crowd: Crowd, tmp_path: Path) -> None:
    marks = {STATE_VARIABLE: str(tmp_path)}
    orphan = crowd.start(PLAIN, **marks, **{PROGRAM_VARIABLE: "scheduler"})
    bystander = crowd.start(PLAIN, **marks, **{PROGRAM_VARIABLE: "mlflow"})
    (tmp_path / "commands.json").write_text(json.dumps({"scheduler": ["printenv", PROGRAM_VARIABLE], "mlflow": []}))
    command = [sys.executable, "-m", "kommuna.embedded.launch", "scheduler"]
    for _ in range(2):
        done = subprocess.run(command, env={**os.environ, **marks}, capture_output=True, text=True, check=True)
        assert done.stdout == "scheduler\n"
    assert orphan.wait(timeout=10) == -signal.SIGTERM
    assert bystander.poll() is None
    assert starts_of(tmp_path, "scheduler") == 2
    assert starts_of(tmp_path, "mlflow") == 0


def test_launch_is_quick_because_it_imports_little() -> None:
    heavy = ("pydantic", "yaml", "requests", "airflow", "mlflow", "kommuna.embedded.lifecycle")
    code = f"import sys, kommuna.embedded.launch; print([name for name in {heavy!r} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_memory_of_an_ended_process_is_zero() -> None:
    gone = subprocess.Popen([sys.executable, "-c", PLAIN], stdout=subprocess.PIPE)
    time.sleep(0.05)
    process = psutil.Process(gone.pid)
    assert memory_bytes([process]) > 0
    gone.kill()
    gone.communicate()
    assert memory_bytes([process]) == 0

"""Trees of processes: what detaches, forks or loses its parent is found and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from kommuna.processes import children_of, tree_of
from kommuna.waiting import wait_until

Script = Callable[[str], str]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Runs a script in a process of its own, with a folder as its argument, and returns what it prints."""

    def run(source: str) -> str:
        command = [sys.executable, "-c", textwrap.dedent(source), str(tmp_path)]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    return run


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_tree_holds_children_of_children() -> None:
    parent = subprocess.Popen(["sh", "-c", "sleep 60 & wait"])
    try:
        wait_until("it has a child", lambda: len(tree_of(parent.pid)) == 2, seconds=10, every=0.02)
        assert parent.pid in children_of(os.getpid())
        assert tree_of(parent.pid) == [parent.pid, *children_of(parent.pid)]
    finally:
        for pid in tree_of(parent.pid)[::-1]:
            os.kill(pid, signal.SIGKILL)
        parent.wait()


def test_orphans_in_sessions_of_their_own_are_killed_and_reaped_and_others_stay(script: Script) -> None:
    killed, spared, left = script("""
        import subprocess, os
        from kommuna.processes import adopt_orphans, children_of, kill_descendants
        spared = subprocess.Popen(["sleep", "60"])
        adopt_orphans()
        out = subprocess.run(["sh", "-c", "setsid sleep 60 >/dev/null 2>&1 & echo $!"], capture_output=True, text=True)
        kill_descendants(spare=[spared.pid])
        print(out.stdout.strip(), spared.pid, children_of(os.getpid()) == [spared.pid])
        spared.kill()
    """).split()
    assert (alive(int(killed)), alive(int(spared)), left) == (False, False, "True")


def test_processes_that_keep_forking_are_killed(script: Script) -> None:
    assert (
        script("""
        import os, subprocess, time
        from kommuna.processes import adopt_orphans, children_of, kill_descendants
        adopt_orphans()
        subprocess.Popen(["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do (sleep 0.01; sleep 60) & done; wait"])
        time.sleep(0.1)
        kill_descendants()
        print(children_of(os.getpid()))
    """)
        == "[]\n"
    )


def test_a_process_ends_with_its_parent_even_if_that_has_ended_already(script: Script) -> None:
    assert (
        script("""
        import os
        from kommuna.processes import end_with_parent
        child = os.fork()
        if child == 0:
            end_with_parent(os.getppid() + 1)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """)
        == "-9\n"
    )


@pytest.mark.slow
def test_a_task_ends_what_the_step_of_a_killed_runtime_left_and_does_not_wait_for_it(
    script: Script, tmp_path: Path
) -> None:
    """The stray holds the runtime's output open; a task that only reads to the end waits for a minute."""
    code, stray = script("""
        import sys
        from kommuna.airflow import StepOperator
        runtime = (
            "import os, subprocess, sys;"
            "print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid, file=open(sys.argv[1], 'w'), flush=True);"
            "os.kill(os.getpid(), 9)"
        )
        step = StepOperator(task_id="s", function="a:b")
        print(step._run_logged([sys.executable, "-c", runtime, sys.argv[1] + "/stray"]))
        print(open(sys.argv[1] + "/stray").read())
    """).split()[-2:]
    assert (code, alive(int(stray))) == ("-9", False)

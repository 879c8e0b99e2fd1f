"""A file that exceeds a limit (output, time, memory, processes) is stopped, reported, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tests.rigs.check import dag, findings_of

from kommuna.cli.check.process.limits import Limits
from kommuna.waiting import wait_until

LIMITS = Limits(seconds=4, memory=256 * 1024 * 1024)
HEAD = "# airflow dag\nimport os, time\n"
FOREVER = {
    "prints.py": HEAD + "while True:\n    print('x' * 1000)\n",
    "writes.py": HEAD + "while True:\n    os.write(1, b'x' * 100000)\n",
    "sleeps.py": HEAD + "time.sleep(10000)\n",
    "swallows.py": HEAD + "while True:\n    try:\n        time.sleep(10000)\n    except BaseException:\n        pass\n",
}
SLOW = "the import takes longer than 4 s"
ENDED = {
    "prints.py": (4, SLOW),
    "writes.py": (4, SLOW),
    "sleeps.py": (3, SLOW),
    "swallows.py": (1, "the file was stopped after 8 s"),
}
GREEDY = {
    "allocates.py": HEAD + "kept = []\nwhile True:\n    kept.append(bytearray(1 << 20))\n",
    "allocates_and_swallows.py": HEAD
    + "kept = []\nwhile True:\n    try:\n        kept.append(bytearray(1 << 20))\n    except MemoryError:\n        pass\n",
    "fills_the_disk.py": HEAD + "with open('/tmp/kommuna-check-filler', 'wb') as f:\n"
    "    os.unlink(f.name)\n    while True:\n        f.write(bytes(1 << 20))\n",
}
ENDLESS = {
    "raises_its_limit.py": HEAD
    + "import resource\nhard = resource.getrlimit(resource.RLIMIT_DATA)[1]\n"
    + "resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))\nkept = []\n"
    + "while True:\n    kept.append(b'x' * (1 << 27))\n",
    "forks.py": HEAD + "while True:\n    os.fork()\n",
    "leaves_daemons.py": HEAD
    + "for _ in range(200):\n    if os.fork() == 0:\n        os.setsid()\n        time.sleep(10000)\n"
    + "time.sleep(10000)\n",
}
GOOD = {"good.py": dag("good")}


def left_of(folder: Path) -> list[psutil.Process]:
    """Processes of an inspection, and of what its files started."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(folder / "dags") in (process.info["cmdline"] or [])
    ]


@pytest.mark.slow
@pytest.mark.parametrize("names", [("prints.py", "writes.py"), ("sleeps.py", "swallows.py")])
def test_a_file_that_runs_forever_is_stopped(tmp_path: Path, names: tuple[str, ...]) -> None:
    found = findings_of(tmp_path, {name: FOREVER[name] for name in names} | GOOD, LIMITS)
    assert sorted(found) == sorted(names)
    for name in names:
        ((line, said, fix),) = found[name]
        assert (line, said.partition(";")[0]) == ENDED[name]
        assert "into a task" in fix
    assert not left_of(tmp_path)


@pytest.mark.slow
def test_a_file_over_the_limits_is_stopped_and_the_next_is_checked(tmp_path: Path) -> None:
    found = findings_of(tmp_path, {**GREEDY, **GOOD, "broken.py": "# airflow dag\nnope\n"}, LIMITS)
    said = {name: (line, what) for name, ((line, what, _),) in found.items()}
    assert said["allocates.py"] == (5, "the import takes more memory than 256 MiB")
    assert said["allocates_and_swallows.py"][1] == "the import takes longer than 4 s"
    assert said["fills_the_disk.py"] == (6, "OSError: [Errno 27] File too large")
    assert said["broken.py"] == (2, "NameError: name 'nope' is not defined")
    assert "good.py" not in said
    assert not left_of(tmp_path)


# Each with room for everything but the one thing that it takes without end: what it is ended for is certain.
MEMORY = Limits(seconds=300, memory=256 * 1024 * 1024)
PROCESSES = Limits(seconds=300, memory=64 * 1024**3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "limits", "reason"),
    [
        ("raises_its_limit.py", MEMORY, "the file takes more memory than 256 MiB"),
        ("forks.py", PROCESSES, "the file keeps starting processes"),
        ("leaves_daemons.py", PROCESSES, "the file keeps starting processes"),
    ],
)
def test_the_exceeded_limit_is_reported(tmp_path: Path, name: str, limits: Limits, reason: str) -> None:
    found = findings_of(tmp_path, {name: ENDLESS[name], **GOOD}, limits)
    ((_, said, _),) = found[name]
    assert said == reason
    assert list(found) == [name]
    assert not left_of(tmp_path)


@pytest.mark.slow
def test_a_bundle_whose_files_all_hang_is_given_up_after_a_few(tmp_path: Path) -> None:
    files = {f"file_{i}.py": "# airflow dag\nimport time\ntime.sleep(1000)\n" for i in range(9)}
    found = findings_of(tmp_path, files, Limits(seconds=1))
    assert sorted(found)[1:] == ["file_0.py", "file_1.py", "file_2.py"]
    assert any(
        what == "3 files take too long: 6 files were not checked" for _, what, _ in found[str(tmp_path / "dags")]
    )


DAEMONS = HEAD + (
    "for _ in range(2):\n    if os.fork() == 0:\n        os.setsid()\n        os.fork()\n        time.sleep(10000)\n"
    "if os.fork() == 0:\n    time.sleep(10000)\ntime.sleep(10000)\n"
)


def of_command(check: psutil.Process) -> psutil.Process:
    return check


def of_inspection(check: psutil.Process) -> psutil.Process:
    return check.children()[0]


def of_keeper(check: psutil.Process) -> psutil.Process:
    return of_inspection(check).children()[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "number"),
    [
        (of_command, signal.SIGKILL), (of_command, signal.SIGTERM), (of_command, signal.SIGINT),
        (of_inspection, signal.SIGKILL), (of_keeper, signal.SIGINT),
    ],
)  # fmt: skip
def test_a_check_that_is_killed_leaves_no_process_and_no_folder(
    tmp_path: Path, victim: Callable[[psutil.Process], psutil.Process], number: int
) -> None:
    (tmp_path / "dags").mkdir()
    (tmp_path / "scratch").mkdir()
    (tmp_path / "dags/daemons.py").write_text(DAEMONS)
    (tmp_path / "kommuna.yaml").write_text("teams:\n  support: {bundle: dags}\n")
    command = [str(Path(sys.executable).with_name("kommuna")), "check", str(tmp_path / "dags")]
    check = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path / "scratch")}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_until(
        "all of them run", lambda: len(left_of(tmp_path)) >= 8
    )  # the command, the inspection, the keeper and five of the file's
    victim(psutil.Process(check.pid)).send_signal(number)
    check.wait(60)
    wait_until("they are gone", lambda: not left_of(tmp_path))
    assert not list((tmp_path / "scratch").iterdir())

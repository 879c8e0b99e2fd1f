"""Trees of processes: kept below one process, and killed as a whole, also those that try to detach.

It imports only the standard library: the parser of teams' DAG files and each step's runtime load it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

MAX_ROUNDS = 50  # of killing processes that keep forking
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Makes this process the new parent of every descendant whose own parent ends; none goes to process 1."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Makes the kernel signal this process when its parent ends. If the parent has ended already, signals at once.

    Args:
        parent: the pid of the parent.
        number: the signal's number.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def children_of(pid: int) -> list[int]:
    """Returns the ids of a process's own children, zombies included."""
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found


def tree_of(pid: int) -> list[int]:
    """Returns the ids of a process and all of its descendants."""
    found = [pid]
    for one in found:
        found += children_of(one)
    return found


def kill_all(find: Callable[[], Iterable[int]]) -> None:
    """Kills the processes that a search finds, repeatedly until two searches in a row find none alive.

    One search is not enough: it may miss the children of a process that ends meanwhile, which become orphans.

    Args:
        find: returns the ids of processes.
    """
    empty_rounds = 0
    for _ in range(MAX_ROUNDS):
        left = [pid for pid in find() if _alive(pid)]
        empty_rounds = 0 if left else empty_rounds + 1
        if empty_rounds == 2:
            break
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def kill_descendants(spare: Iterable[int] = ()) -> None:
    """Kills all descendants of this process, and reaps those that became its own children.

    Args:
        spare: ids of descendants to keep.
    """
    kept = {os.getpid(), *spare}
    kill_all(lambda: [pid for pid in tree_of(os.getpid()) if pid not in kept])
    for pid in children_of(os.getpid()):
        if pid not in kept:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False

"""Every process that a DAG file started, however it tried to get away, and their end."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

import psutil

_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Makes this process the parent of every descendant whose own parent ends: none is lost to process 1."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def close_memory() -> None:
    """Keeps this process's memory from others of its user, such as the files' processes."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def tree_of(pid: int) -> list[psutil.Process]:
    """A file's process, what it started, and what was orphaned."""
    found: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        found = [process, *process.children(recursive=True)]
    for orphan in _orphans():
        with contextlib.suppress(psutil.Error):
            found += [orphan, *orphan.children(recursive=True)]
    return found


def end_all(pid: int) -> None:
    """Ends a file's processes, again and again until a look finds none: they may fork meanwhile."""
    for _ in range(50):
        left = [process for process in tree_of(pid) if _alive(process)]
        if not left:
            break
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
    for orphan in _orphans():
        with contextlib.suppress(ChildProcessError):
            os.waitpid(orphan.pid, os.WNOHANG)


def _orphans() -> Iterator[psutil.Process]:
    """Children of this process in another session: its own (the fork server) are in its session, and none of a
    file's can enter that."""
    here = os.getsid(0)
    for child in psutil.Process().children():
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(child.pid) != here:
                yield child


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False

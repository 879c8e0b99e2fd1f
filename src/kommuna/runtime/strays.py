"""Ends processes that a step started and left running, also those in sessions of their own."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Collection
from pathlib import Path

from kommuna.runtime.limits import process_tree

MAX_SCANS = 50  # of processes that keep forking
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Makes this process the new parent of every descendant whose own parent ends."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_all_except(others: Collection[int]) -> None:
    """Kills all descendants of this process except the given ones, until two scans in a row find none.

    One scan is not enough: a process whose parent ends during the scan may be missed.

    Args:
        others: ids of processes to keep.
    """
    calm = 0
    for _ in range(MAX_SCANS):
        left = [pid for pid in process_tree(os.getpid()) if pid not in others and not _ended(pid)]
        calm = 0 if left else calm + 1
        if calm == 2:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _ended(pid: int) -> bool:
    """Whether a process has ended; reaps it if it is a child of this one."""
    with contextlib.suppress(ChildProcessError):
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return True
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except OSError:
        return True

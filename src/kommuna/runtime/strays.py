"""What a step started and left behind, in sessions of its own too: it ends with the step."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Collection
from pathlib import Path

from kommuna.runtime.limits import family

MOST_LOOKS = 50  # at processes that go on forking
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Makes this process the parent of every descendant whose own parent ends."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_all_but(others: Collection[int]) -> None:
    """Ends everything below this process but what is named, until two looks in a row find nothing.

    Once is not enough: what is not seen below a process that ends in the middle of the look may be an orphan then.
    """
    calm = 0
    for _ in range(MOST_LOOKS):
        left = [pid for pid in family(os.getpid()) if pid not in others and not _ended(pid)]
        calm = 0 if left else calm + 1
        if calm == 2:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _ended(pid: int) -> bool:
    """Whether a process has ended; as a child of this one it is let go of."""
    with contextlib.suppress(ChildProcessError):
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return True
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except OSError:
        return True

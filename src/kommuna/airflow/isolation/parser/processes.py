"""Every process that a DAG file started, however it tried to get away, and their end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from typing import NoReturn

import psutil

_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Makes this process the parent of every descendant whose own parent ends: none is lost to process 1."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def close_memory() -> None:
    """Keeps this process's memory from others of its user, such as the files' processes."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def keep(run: Callable[[], object]) -> NoReturn:
    """Runs a function in a child of this process, and ends this process the way that the child ended.

    What the child starts stays below this process, whoever of it ends: one file's processes are never another's.
    """
    adopt_orphans()
    child = os.fork()
    if child == 0:
        run()
        os._exit(0)
    pid, status = os.wait()
    while pid != child:  # orphans end here too
        pid, status = os.wait()
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        with contextlib.suppress(OSError):  # SIGKILL has no handler to reset
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def tree_of(pid: int) -> list[psutil.Process]:
    """A process and all that it started."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def end_all(pid: int) -> None:
    """Ends a file's processes, again and again until a look finds none: they may fork meanwhile.

    Those of any file that killed its own keeper end with them: they are nobody's.
    """
    for _ in range(50):
        nobodys = [process for orphan in _orphans() for process in tree_of(orphan.pid)]
        left = [process for process in (*tree_of(pid), *nobodys) if _alive(process)]
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

"""Finds and kills every process that a DAG file started, even those that tried to detach."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from typing import NoReturn

import psutil

MAX_ROUNDS = 50  # of killing processes that keep forking
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Makes this process the new parent of its orphaned descendants, so that none is lost to process 1."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def close_memory() -> None:
    """Hides this process's memory from other processes of its user, such as those of DAG files."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def end_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Makes the kernel signal this process when its parent ends. If the parent has ended already, signals at once.

    Args:
        parent: the pid of the parent.
        number: the signal's number.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def keep(run: Callable[[], object], tell: Callable[[int], object] = lambda _: None) -> NoReturn:
    """Runs a function in a child of this process, and ends this process with the child's exit code or signal.

    All descendants of the child stay below this process, whichever of them ends, so the processes of two files are
    never mixed up. They all end with this process's parent, however that ends.

    Args:
        run: the function; the child exits when it returns.
        tell: called with the child's process group.
    """
    try:
        parent, here = os.getppid(), os.getpid()
        adopt_orphans()
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # replace the parent's handlers
            signal.signal(signal.SIGINT, signal.default_int_handler)
            end_with_parent(here)
            run()
            os._exit(0)
        with contextlib.suppress(OSError):  # the child did it itself and has ended, or started its own session
            os.setpgid(child, child)
        tell(child)

        def end(number: int, _frame: object) -> None:
            _end_below(child)
            _end_by(number)

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, end)
        end_with_parent(parent, signal.SIGTERM)
        pid, status = os.wait()
        while pid != child:  # orphans are reaped here, too
            pid, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            _end_by(-code)
        os._exit(code)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)  # in any case: the code after the call belongs to the parent


def _end_by(number: int) -> None:
    """Ends this process with a signal."""
    with contextlib.suppress(OSError):  # SIGKILL has no handler to reset
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _end_below(group: int) -> None:
    """Kills a process group at once, and then all other descendants of this process."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    _end(lambda: tree_of(os.getpid())[1:])


def _end(find: Callable[[], list[psutil.Process]]) -> None:
    """Kills the processes that a search finds, repeatedly until two searches in a row find none alive.

    One search is not enough: it misses the children of a process that ends meanwhile, which become orphans.
    """
    empty_rounds = 0
    for _ in range(MAX_ROUNDS):
        left = [process for process in find() if _alive(process)]
        empty_rounds = 0 if left else empty_rounds + 1
        if empty_rounds == 2:
            break
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()


def tree_of(pid: int) -> list[psutil.Process]:
    """Returns a process and its descendants."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def end_all(pid: int) -> None:
    """Kills a file's processes, repeatedly, since they may fork meanwhile.

    This also kills orphans of files that killed their own supervising process.
    """
    _end(lambda: tree_of(pid) + [process for orphan in _orphans() for process in tree_of(orphan.pid)])
    for orphan in _orphans():
        with contextlib.suppress(ChildProcessError):
            os.waitpid(orphan.pid, os.WNOHANG)


def _orphans() -> Iterator[psutil.Process]:
    """Yields the children of this process that run in another session.

    The fork server is in this process's session, which no process of a file can enter.
    """
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

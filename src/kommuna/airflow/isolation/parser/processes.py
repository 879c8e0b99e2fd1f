"""Every process that a DAG file started, however it tried to get away, and their end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from typing import NoReturn

import psutil

MOST_LOOKS = 50  # at processes that go on forking
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Makes this process the parent of every descendant whose own parent ends: none is lost to process 1."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def close_memory() -> None:
    """Keeps this process's memory from others of its user, such as the files' processes."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def end_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Sends this process a signal when the one that started it ends, or at once where that has ended."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def keep(run: Callable[[], object], tell: Callable[[int], object] = lambda _: None) -> NoReturn:
    """Runs a function in a child of this process, and ends this process the way that the child ended.

    What the child starts stays below this process, whoever of it ends: one file's processes are never another's. It
    ends with this process's parent, however that ends.

    Args:
        run: ends in `os._exit`, or is done when it returns.
        tell: is given the child's process group.
    """
    try:
        parent, here = os.getppid(), os.getpid()
        adopt_orphans()
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the handlers before it are the parent's
            signal.signal(signal.SIGINT, signal.default_int_handler)
            end_with_parent(here)
            run()
            os._exit(0)
        with contextlib.suppress(OSError):  # it has done so, and ended, or has begun its own session
            os.setpgid(child, child)
        tell(child)

        def end(number: int, _frame: object) -> None:
            _end_below(child)
            _end_by(number)

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, end)
        end_with_parent(parent, signal.SIGTERM)
        pid, status = os.wait()
        while pid != child:  # orphans end here too
            pid, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            _end_by(-code)
        os._exit(code)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)  # in any case: what follows is the parent's


def _end_by(number: int) -> None:
    """Ends this process by a signal."""
    with contextlib.suppress(OSError):  # SIGKILL has no handler to reset
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _end_below(group: int) -> None:
    """Ends a process group at one blow, and then all else that is below this process."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    _end(lambda: tree_of(os.getpid())[1:])


def _end(look: Callable[[], list[psutil.Process]]) -> None:
    """Ends what a look finds, again and again until two in a row find nothing alive.

    Once is not enough: what is not seen below a process that ends in the middle of the look may be an orphan then.
    """
    calm = 0
    for _ in range(MOST_LOOKS):
        left = [process for process in look() if _alive(process)]
        calm = 0 if left else calm + 1
        if calm == 2:
            break
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()


def tree_of(pid: int) -> list[psutil.Process]:
    """A process and all that it started."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def end_all(pid: int) -> None:
    """Ends a file's processes, again and again: they may fork meanwhile.

    Those of any file that killed its own keeper end with them: they are nobody's.
    """
    _end(lambda: tree_of(pid) + [process for orphan in _orphans() for process in tree_of(orphan.pid)])
    for orphan in _orphans():
        with contextlib.suppress(ChildProcessError):
            os.waitpid(orphan.pid, os.WNOHANG)


def _orphans() -> Iterator[psutil.Process]:
    """Children of this process in another session: its own (the fork server) are in its session, and none of a
    file's can enter that.
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

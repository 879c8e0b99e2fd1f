"""Runs a DAG file below a process that keeps all of its processes together, and kills every one of them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from typing import NoReturn

from kommuna.processes import adopt_orphans, children_of, end_with_parent, kill_all, kill_descendants, tree_of

_PR_SET_DUMPABLE = 4


def close_memory() -> None:
    """Hides this process's memory from other processes of its user, such as those of DAG files."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


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
    kill_descendants()


def end_all(pid: int) -> None:
    """Kills a file's processes, repeatedly, since they may fork meanwhile.

    This also kills orphans of files that killed their own supervising process.
    """
    kill_all(lambda: tree_of(pid) + [one for orphan in _orphans() for one in tree_of(orphan)])
    for orphan in _orphans():
        with contextlib.suppress(ChildProcessError):
            os.waitpid(orphan, os.WNOHANG)


def _orphans() -> Iterator[int]:
    """Yields the children of this process that run in another session.

    The fork server is in this process's session, which no process of a file can enter.
    """
    here = os.getsid(0)
    for child in children_of(os.getpid()):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(child) != here:
                yield child

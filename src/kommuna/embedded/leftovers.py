"""Finds and ends processes of the embedded platform, by a variable in their environment.

It imports little, since every supervised process imports it as it starts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import psutil

from kommuna.errors import PlatformFault
from kommuna.waiting import wait_until

STATE_VARIABLE = "KOMMUNA_STATE"
PROGRAM_VARIABLE = "KOMMUNA_PROGRAM"


def marked(state: str, *, program: str | None = None) -> list[psutil.Process]:
    """Returns this platform's processes, except the calling one and its ancestors.

    A process that overwrites its environment with its title, as those of PostgreSQL do, is recognised by its parent.

    Args:
        state: the state folder, the same for all processes of one platform.
        program: limits the result to one program (`scheduler`).
    """
    spared = {process.pid for process in (psutil.Process(), *psutil.Process().parents())}
    found: dict[int, psutil.Process] = {}
    others: list[tuple[int, psutil.Process]] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid in spared:
                continue
            try:
                environment = process.environ()
            except psutil.AccessDenied:
                environment = {}
            if environment.get(STATE_VARIABLE) == state and program in (None, environment.get(PROGRAM_VARIABLE)):
                found[process.pid] = process
            elif STATE_VARIABLE not in environment:
                others.append((process.ppid(), process))
    while children := [(parent, process) for parent, process in others if parent in found]:
        found |= {process.pid: process for _, process in children}
        others = [pair for pair in others if pair not in children]
    return list(found.values())


def end_all(processes: Sequence[psutil.Process], *, grace_seconds: float = 5) -> None:
    """Terminates the processes, and kills those that still run after the grace period.

    Args:
        processes: the processes.
        grace_seconds: the time between SIGTERM and SIGKILL.
    """
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    for process in _alive_after(processes, grace_seconds):
        with contextlib.suppress(psutil.Error):
            process.kill()
    _alive_after(processes, 5)


def _alive_after(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Returns the processes that still run after the time, or an empty list as soon as all have ended.

    A zombie counts as ended: in a container whose first process is not an init, nobody may ever reap an orphan.
    """
    with contextlib.suppress(PlatformFault):
        wait_until("all have ended", lambda: not any(map(_alive, processes)), seconds=seconds, every=0.02)
    return [process for process in processes if _alive(process)]


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def memory_bytes(processes: Sequence[psutil.Process]) -> int:
    """Returns the proportional set size of processes in bytes: a page that several share is counted once."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total

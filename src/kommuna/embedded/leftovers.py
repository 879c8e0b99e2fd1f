"""Finds and ends processes that the embedded platform started, by the mark in their environment.

Imports next to nothing: every supervised process passes through here as it starts.
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
    """This platform's processes, but for the calling one and its ancestors.

    A process that writes its title over its environment, as PostgreSQL's do, is known by the one that started it.

    Args:
        state: the state folder, which marks all processes of one platform.
        program: only those of one program (`scheduler`).
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
    """Asks each process to end, and kills those that have not after the grace."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    for process in _alive_after(processes, grace_seconds):
        with contextlib.suppress(psutil.Error):
            process.kill()
    _alive_after(processes, 5)


def _alive_after(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those that still run once all have ended or the time is over.

    One that has ended and waits for its parent to notice does not run: an orphan's parent may never do so, where the
    first process of a container is no init.
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
    """Proportional set size of processes: a page that several share is counted once over all of them."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total

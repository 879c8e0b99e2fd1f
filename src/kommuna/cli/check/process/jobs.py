"""Runs a function on a team's code in a process of its own, held to limits of time, memory, output and processes."""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import selectors
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from kommuna.airflow.isolation.parser import child, processes
from kommuna.cli.check.process.limits import Limits
from kommuna.runtime.limits import resident_bytes

MAX_PROCESSES = 64  # that one file may have at one time
ENDING = {signal.SIGTERM, signal.SIGINT}
KEPT_OUTPUT = 4096  # bytes of what a file prints last; the rest is read and dropped
WATCH_SECONDS = 0.1
JUDGING_MEMORY = 16 * 1024**3  # bytes of address space: libraries for numbers reserve far more than they use


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        reason: `time`, `memory` or `processes` where it was ended for that, `stopped` where this process is to end;
            else empty.
        code: the exit code, or the negative number of a signal.
        printed: bytes that it printed.
        last: the end of what it printed.
    """

    reason: str
    code: int
    printed: int
    last: str


def run(work: Callable[[], object], limits: Limits) -> Ended:
    """Runs a function in a fork of this process, and ends everything that it started.

    The function's process may use `limits.memory` until it calls `allow_judging`.
    """
    most_processes = _processes_of_user() + 4 * MAX_PROCESSES
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # they wait until nothing is left of this run
    try:
        output, their_output = os.pipe()
        group, their_group = os.pipe()
        keeper = os.fork()
        if keeper == 0:
            for mine in (output, group):
                os.close(mine)
            _become_keeper(their_output)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            processes.keep(
                lambda: _work(work, limits, most_processes, their_group),
                lambda child: os.write(their_group, str(child).encode()),
            )
        for their in (their_output, their_group):
            os.close(their)
        watch = _Watch(keeper, output, limits)
        told = os.read(group, 16)  # nothing where there is no child
        os.close(group)
        try:
            reason = watch.until_end()
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if told:
                    os.killpg(int(told), signal.SIGKILL)  # at one blow: a group cannot fork itself away from it
            with contextlib.suppress(ProcessLookupError):
                os.kill(keeper, signal.SIGKILL)
            _, status = os.waitpid(keeper, 0)
            processes.end_all(keeper)
            watch.close()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return Ended(reason, os.waitstatus_to_exitcode(status), watch.printed, watch.last)


def allow_judging() -> None:
    """Lifts the limit of memory for what Kommuna itself loads to judge steps; the watch holds the whole to a bound."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def _become_keeper(output: int) -> None:
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, place in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(descriptor, place)
    os.close(output)


def _work(work: Callable[[], object], limits: Limits, most_processes: int, group: int) -> None:
    try:
        os.close(group)
        child.limit(child.Limits(JUDGING_MEMORY, round(2 * limits.seconds) + 5, most_processes))
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (min(hard, child.data_bytes() + limits.memory), hard))
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)


@functools.cache
def _processes_of_user() -> int:
    """Threads of this user on this machine: what RLIMIT_NPROC counts."""
    user, count = os.getuid(), 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.uids().real == user:
                count += process.num_threads()
    return count


class _Watch:
    """Reads what a process prints and looks at what it uses, until it ends or has to be ended."""

    def __init__(self, keeper: int, output: int, limits: Limits) -> None:
        self._keeper = keeper
        self._output = output
        self._limits = limits
        self._handle = os.pidfd_open(keeper)
        self._before = resident_bytes(os.getpid())
        self._tail = b""
        self.printed = 0
        os.set_blocking(output, False)

    @property
    def last(self) -> str:
        """The end of what was printed."""
        return self._tail.decode(errors="replace").strip()

    def until_end(self) -> str:
        """Waits; returns the limit that was passed, or nothing."""
        deadline = time.monotonic() + 2 * self._limits.seconds
        look_at = 0.0
        with selectors.DefaultSelector() as selector:
            selector.register(self._handle, selectors.EVENT_READ)
            selector.register(self._output, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select(WATCH_SECONDS)}
                if self._output in ready and not self._read():
                    selector.unregister(self._output)
                now = time.monotonic()
                if now > look_at:
                    look_at = now + WATCH_SECONDS
                    if reason := self._passed():
                        return reason
                if self._handle in ready:
                    return ""
                if now > deadline:
                    return "time"
                if signal.sigpending() & ENDING:
                    return "stopped"

    def close(self) -> None:
        """Reads the rest, and closes what was open."""
        while self._read():
            pass
        os.close(self._handle)
        os.close(self._output)

    def _read(self) -> bool:
        """Takes what was printed; False at its end, or where nothing waits."""
        try:
            block = os.read(self._output, 1 << 16)
        except BlockingIOError:
            return False
        self.printed += len(block)
        self._tail = (self._tail + block)[-KEPT_OUTPUT:]
        return bool(block)

    def _passed(self) -> str:
        if len(processes.tree_of(self._keeper)) > MAX_PROCESSES:
            return "processes"
        # Twice the limit, and what every fork shares with this process: steps' own libraries are loaded besides.
        allowed = 2 * self._limits.memory + 3 * self._before
        return "memory" if resident_bytes(self._keeper) > allowed else ""

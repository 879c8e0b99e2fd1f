"""Runs a function on team code in its own process, with limits of time, memory, output and processes."""

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
from kommuna.processes import tree_of
from kommuna.runtime.limits import resident_bytes

MAX_PROCESSES = 64  # of one file at the same time
STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}
KEPT_OUTPUT = 4096  # bytes kept from the end of a file's output
WATCH_SECONDS = 0.1
JUDGING_MEMORY = 16 * 1024**3  # bytes of address space: numeric libraries reserve far more than they use


@dataclass(frozen=True)
class EndedJob:
    """How a process ended.

    Attributes:
        reason: the limit that it exceeded (`time`, `memory`, `processes`), `stopped` if this process was told to end,
            or empty.
        code: the exit code, or the negative number of a signal.
        printed: the number of bytes that it printed.
        last: the end of its output.
    """

    reason: str
    code: int
    printed: int
    last: str


def run(work: Callable[[], object], limits: Limits) -> EndedJob:
    """Runs a function in a fork of this process, and kills everything that it started.

    The function's process is limited to `limits.memory` until it calls `allow_judging`.

    Args:
        work: the function.
        limits: the limits of its process.
    """
    most_processes = _processes_of_user() + 4 * MAX_PROCESSES
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # delivered after this run's processes are gone
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
        child_group = os.read(group, 16)  # empty if there is no child
        os.close(group)
        try:
            reason = watch.until_end()
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if child_group:
                    os.killpg(int(child_group), signal.SIGKILL)  # atomic: the group cannot escape it by forking
            with contextlib.suppress(ProcessLookupError):
                os.kill(keeper, signal.SIGKILL)
            _, status = os.waitpid(keeper, 0)
            processes.end_all(keeper)
            watch.close()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return EndedJob(reason, os.waitstatus_to_exitcode(status), watch.printed, watch.last)


def allow_judging() -> None:
    """Lifts the memory limit for the libraries that Kommuna loads to check steps. The watch still limits the total."""
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
        child.limit(child.ParseLimits(JUDGING_MEMORY, round(2 * limits.seconds) + 5, most_processes))
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (min(hard, child.data_bytes() + limits.memory), hard))
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)


@functools.cache
def _processes_of_user() -> int:
    """Returns the number of threads of this user on this machine, which RLIMIT_NPROC counts."""
    user, count = os.getuid(), 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.uids().real == user:
                count += process.num_threads()
    return count


class _Watch:
    """Reads a process's output and checks its resources, until it ends or has to be killed."""

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
        """The end of the output."""
        return self._tail.decode(errors="replace").strip()

    def until_end(self) -> str:
        """Waits for the process to end or exceed a limit. Returns the limit, `stopped`, or an empty text."""
        deadline = time.monotonic() + 2 * self._limits.seconds
        next_check = 0.0
        with selectors.DefaultSelector() as selector:
            selector.register(self._handle, selectors.EVENT_READ)
            selector.register(self._output, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select(WATCH_SECONDS)}
                if self._output in ready and not self._read():
                    selector.unregister(self._output)
                now = time.monotonic()
                if now > next_check:
                    next_check = now + WATCH_SECONDS
                    if reason := self._exceeded_limit():
                        return reason
                if self._handle in ready:
                    return ""
                if now > deadline:
                    return "time"
                if signal.sigpending() & STOP_SIGNALS:
                    return "stopped"

    def close(self) -> None:
        """Reads the remaining output and closes the descriptors."""
        while self._read():
            pass
        os.close(self._handle)
        os.close(self._output)

    def _read(self) -> bool:
        """Reads available output; returns False at its end, or if nothing is available."""
        try:
            block = os.read(self._output, 1 << 16)
        except BlockingIOError:
            return False
        self.printed += len(block)
        self._tail = (self._tail + block)[-KEPT_OUTPUT:]
        return bool(block)

    def _exceeded_limit(self) -> str:
        if len(tree_of(self._keeper)) > MAX_PROCESSES:
            return "processes"
        # Twice the limit, plus the memory that each fork shares with this process: steps load further libraries.
        allowed = 2 * self._limits.memory + 3 * self._before
        return "memory" if resident_bytes(self._keeper) > allowed else ""

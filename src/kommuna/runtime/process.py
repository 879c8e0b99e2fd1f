"""The step's process: started with limits, watched, and ended with all that it started."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from kommuna.errors import EXIT_DONE, EXIT_FAULT, LimitExceeded, PlatformFault
from kommuna.processes import adopt_orphans, end_with_parent, kill_descendants, tree_of
from kommuna.runtime import child, environment
from kommuna.runtime.call_listener import CallListener
from kommuna.runtime.child import ChildReport
from kommuna.runtime.limits import allocate_lean, oom_kills, resident_bytes
from kommuna.runtime.recording import Recorder
from kommuna.runtime.second_lookup import SecondLookup
from kommuna.spec.step import StepContext, StepSpec
from kommuna.store.inputs import LocalTree

POLL_SECONDS = 0.05
GRACE_SECONDS = 10.0


@dataclass(frozen=True)
class EndedProcess:
    """How the step's process ended."""

    status: int
    seconds: float
    processor_seconds: float
    peak: int
    report: bytes
    reason: str = ""  # "memory", "time" or "stopped" where the supervisor ended it
    recorder: Recorder | None = None  # None if the step ran in this process
    listener_fault: str = ""  # why its calls could not be received


# How the step's function is called.
CallStep = Callable[[StepSpec, dict[str, LocalTree], StepContext, Path, SecondLookup | None], EndedProcess]


def in_child(
    spec: StepSpec,
    inputs: dict[str, LocalTree],
    context: StepContext,
    folder: Path,
    second_lookup: SecondLookup | None = None,
) -> EndedProcess:
    """Runs the step in a forked child, in which the interpreter and pydantic are already loaded.

    Args:
        spec: the step, with its limits.
        inputs: the checked local files, by the input's name.
        context: the run's context, for steps that take one.
        folder: the work folder, which outputs are written to.
        second_lookup: looks for an earlier result once the parameters are coerced; None calls the step in any case.
    """
    began = time.monotonic()
    kills = oom_kills()
    supervisor = os.getpid()
    report = os.memfd_create("report")
    recorder = Recorder(spec, _runtime_paths(spec, inputs, folder))
    listener = CallListener(recorder.record)
    if second_lookup is not None:
        second_lookup.open()
    others = set(tree_of(supervisor))
    adopt_orphans()
    pid = os.fork()
    if pid == 0:
        code = EXIT_FAULT
        try:
            _become_child(supervisor)
            listener.start_in_child()
            environment.apply(spec)
            os.chdir(_empty_folder(folder))
            code = child.run(spec, inputs, context, folder, report, second_lookup)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)  # always: the code below belongs to the supervisor
    recorder.set_process(pid)
    with _forwarded_signals(pid) as stopped, os.fdopen(report, "rb") as file:
        listener.start_in_supervisor()
        reason, peak = _watch(pid, spec, began, stopped, second_lookup)
        _, status, usage = os.wait4(pid, 0)
        file.seek(0)
        answer = file.read()
    _kill_group(pid, signal.SIGKILL)  # processes that the step started
    kill_descendants(spare=others)
    listener.close()
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGKILL and not reason and oom_kills() > kills:
        reason = "memory"
    seconds, peak = time.monotonic() - began, max(peak, usage.ru_maxrss * 1024)
    processor = usage.ru_utime + usage.ru_stime
    return EndedProcess(code, seconds, processor, peak, answer, reason, recorder, listener.fault)


def in_this_process(
    spec: StepSpec,
    inputs: dict[str, LocalTree],
    context: StepContext,
    folder: Path,
    second_lookup: SecondLookup | None = None,
) -> EndedProcess:
    """Runs the step in this process, for debugging: without limits, and its result is not reused.

    Args:
        spec: the step.
        inputs: the checked local files, by the input's name.
        context: the run's context, for steps that take one.
        folder: the work folder, which outputs are written to.
        second_lookup: not used.
    """
    del second_lookup  # the step is always called
    began, processor = time.monotonic(), time.process_time()
    report = os.memfd_create("report")
    environment.apply(spec, keep_others=True)
    with os.fdopen(os.dup(report), "rb") as file:
        code = child.run(spec, inputs, context, folder, report)
        file.seek(0)
        seconds, processor = time.monotonic() - began, time.process_time() - processor
        return EndedProcess(code, seconds, processor, resident_bytes(os.getpid()), file.read())


def report_of(ended: EndedProcess, spec: StepSpec) -> ChildReport:
    """Returns the child's report if it succeeded; else raises the reason why it ended."""
    limits = spec.resources
    if ended.reason == "memory":
        raise LimitExceeded(
            f"out of memory: the step used {ended.peak / 2**30:.2f} GiB of {limits.memory}",
            fix="raise `memory` in the step's resources, or stream the table",
        )
    if ended.reason == "time":
        raise LimitExceeded(
            f"out of time: the step ran for {limits.seconds} seconds",
            fix="raise `seconds` in the step's resources, or reduce the work of one step",
        )
    if ended.reason == "stopped":
        raise PlatformFault("the step was stopped by a signal", fix="it left nothing behind: run it again")
    how = f"signal {-ended.status}" if ended.status < 0 else f"exit code {ended.status}"
    again = "it left nothing behind: run it again"
    try:
        report = ChildReport.model_validate_json(ended.report)
    except ValidationError:
        raise PlatformFault(f"the step's process died ({how}) and left no report", fix=again) from None
    if report.failure is not None:
        raise report.failure.error()
    if ended.status != EXIT_DONE:
        raise PlatformFault(f"the step's process died ({how}) after its report", fix=again)
    return report


def _empty_folder(folder: Path) -> Path:
    """Creates an empty working folder, so that no step depends on where its task runs."""
    made = folder / "here"
    made.mkdir(exist_ok=True)
    return made


def _runtime_paths(spec: StepSpec, inputs: dict[str, LocalTree], folder: Path) -> tuple[str, ...]:
    """Returns the paths that the runtime provides to a step: its work folder, its inputs, and its clients' cache."""
    given = [str(folder)]
    for tree in inputs.values():
        items = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else [tree]
        given += [item.path for item in items if item.path]
    if spec.store.url.startswith("file:"):
        given.append(f"{spec.store.url.removeprefix('file://').rstrip('/')}/{spec.team}/shared/")
    return tuple(given)


def _become_child(supervisor: int) -> None:
    os.setsid()
    end_with_parent(supervisor)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    with contextlib.suppress(OSError):  # the OOM killer then chooses the step, not the supervisor
        Path("/proc/self/oom_score_adj").write_text("500")
    _close_input()
    allocate_lean()


def _close_input() -> None:
    """Replaces standard input by an empty one."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if null:
        os.close(null)
    sys.stdin = open(0, closefd=False, encoding="utf-8")  # noqa: SIM115


def _watch(
    pid: int, spec: StepSpec, began: float, stopped: list[int], second_lookup: SecondLookup | None
) -> tuple[str, int]:
    """Waits for the child's end; ends it past a limit. Returns the reason, if any, and the peak memory seen."""
    handle = os.pidfd_open(pid)
    waits = select.poll()  # not `select`, which takes no descriptor above 1,023
    waits.register(handle, select.POLLIN)
    question = None if second_lookup is None else second_lookup.begin()
    if question is not None:
        waits.register(question, select.POLLIN)
    peak = 0
    reason = ""
    kill_at = 0.0
    try:
        while True:
            ready = dict(waits.poll(1000 * POLL_SECONDS))
            if handle in ready:
                return reason, peak
            if question in ready and second_lookup is not None:
                waits.unregister(question)  # there is one request
                if second_lookup.receive():
                    _kill_group(pid, signal.SIGKILL)
            now = time.monotonic()
            used = resident_bytes(pid)
            peak = max(peak, used)
            if not reason and used > spec.resources.memory_bytes:
                reason = "memory"
                _kill_group(pid, signal.SIGKILL)
            elif not reason and now - began > spec.resources.seconds:
                reason, kill_at = "time", now + GRACE_SECONDS
                _kill_group(pid, signal.SIGTERM)
            elif not reason and stopped:
                reason, kill_at = "stopped", now + GRACE_SECONDS
            elif kill_at and now > kill_at:
                _kill_group(pid, signal.SIGKILL)
    except BaseException:
        _kill_group(pid, signal.SIGKILL)
        raise
    finally:
        os.close(handle)
        if second_lookup is not None:
            second_lookup.close()


@contextlib.contextmanager
def _forwarded_signals(pid: int) -> Iterator[list[int]]:
    """Passes SIGTERM and SIGINT on to the child; yields the list of those that came."""
    came: list[int] = []

    def forward(number: int, _frame: object) -> None:
        came.append(number)
        _kill_group(pid, signal.SIGTERM)

    old = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield came
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _kill_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)

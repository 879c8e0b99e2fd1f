"""Runs one step: cache look-up, child process with limits, artifacts, manifest."""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import signal
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from pydantic import ValidationError

import kommuna
from kommuna.errors import (
    EXIT_DONE,
    EXIT_FAULT,
    DataError,
    KommunaError,
    LimitExceeded,
    PlatformFault,
)
from kommuna.outages import wait_out
from kommuna.processes import adopt_orphans, end_with_parent, kill_descendants, tree_of
from kommuna.runtime import child, environment
from kommuna.runtime.call_listener import CallListener
from kommuna.runtime.child import ChildReport
from kommuna.runtime.limits import allocate_lean, oom_kills, resident_bytes
from kommuna.runtime.recording import Recorder
from kommuna.runtime.second_lookup import SecondLookup
from kommuna.spec.caching import duration
from kommuna.spec.step import StepContext, StepResult, StepSpec
from kommuna.store import Artifact, Manifest, Store
from kommuna.store.analyses import Analyses
from kommuna.store.inputs import FoundFile, InputChanged, LocalTree
from kommuna.store.lookup import LookedUp, answer, context_of, look_up, result_of
from kommuna.store.manifest import Kind
from kommuna.store.results import Results
from kommuna.store.why import not_given

log = structlog.get_logger()

POLL_SECONDS = 0.05
GRACE_SECONDS = 10.0
MAX_CHANGES = 5  # of an input between its look-up and its copy


@dataclass(frozen=True)
class _Ended:
    """How the step's process ended."""

    status: int
    seconds: float
    peak: int
    report: bytes
    reason: str = ""  # "memory", "time" or "stopped" where the supervisor ended it
    recorder: Recorder | None = None  # None if the step ran in this process
    listener_fault: str = ""  # why its calls could not be received


# How the step's function is called.
Run = Callable[[StepSpec, dict[str, LocalTree], StepContext, Path, SecondLookup | None], _Ended]


def in_child(
    spec: StepSpec,
    inputs: dict[str, LocalTree],
    context: StepContext,
    folder: Path,
    second_lookup: SecondLookup | None = None,
) -> _Ended:
    """Runs the step in a forked child, in which the interpreter and pydantic are already loaded."""
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
    return _Ended(code, seconds, peak, answer, reason, recorder, listener.fault)


def in_this_process(
    spec: StepSpec,
    inputs: dict[str, LocalTree],
    context: StepContext,
    folder: Path,
    second_lookup: SecondLookup | None = None,
) -> _Ended:
    """Runs the step in this process, for debugging: without limits, and its result is not reused."""
    del second_lookup  # the step is always called
    began = time.monotonic()
    report = os.memfd_create("report")
    environment.apply(spec, keep_others=True)
    with os.fdopen(os.dup(report), "rb") as file:
        code = child.run(spec, inputs, context, folder, report)
        file.seek(0)
        return _Ended(code, time.monotonic() - began, resident_bytes(os.getpid()), file.read())


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


def run_step(spec: StepSpec, run: Run = in_child, *, known: Sequence[FoundFile] = ()) -> StepResult:
    """Runs a step, or finds an earlier result of it. Never raises.

    Args:
        spec: the step.
        run: `in_child` or `in_this_process`.
        known: files among the inputs that the step's operator found.

    Returns:
        The result, with the exit code (0 done, 1 retry, 2 the team's mistake, 3 memory or time) and the message.
    """
    place = " · ".join(part for part in (spec.team, spec.dag_id, spec.task_id, spec.function) if part)
    try:
        return _run(spec, run, known)
    except KommunaError as error:
        error.where = f"{place}; {error.where}" if error.where else place
        return StepResult.failed(error)
    except Exception as error:
        log.exception("step.failed", step=spec.function)
        return StepResult.failed(KommunaError(f"{type(error).__name__}: {error}", where=place))


def _run(spec: StepSpec, run: Run, known: Sequence[FoundFile]) -> StepResult:
    store = Store(spec.store, spec.team)
    with store.scratch() as folder:
        source = ""
        for attempt in range(MAX_CHANGES):
            handed = known if attempt == 0 else ()  # of a file that changed, nothing is taken as known
            found = wait_out(partial(look_up, spec, store, folder, known=handed))
            try:
                return _result(spec, store, folder, found, run)
            except InputChanged as changed:
                source = str(changed)
                log.warning("step.input_changed", source=source, hint="it is read again")
        raise DataError(
            f"an input is replaced again and again while it is read: {source}",
            fix="let it be written elsewhere, and moved to its place once it is whole",
        )


def _result(spec: StepSpec, store: Store, folder: Path, found: LookedUp, run: Run) -> StepResult:
    results = Results(store)
    given = found.manifest
    second_lookup = SecondLookup(found.question.params, lambda params: _second_answer(spec, store, found, params))
    if given is not None:
        made = given
    elif not spec.cache or _last_result_was_unusable(spec, results):
        made = _run_and_store(spec, store, folder, found, run, second_lookup)
    else:
        with results.claim(found.digest):
            given, _ = wait_out(lambda: answer(spec, store, found.question, found.inputs))
            made = given or _run_and_store(spec, store, folder, found, run, second_lookup)
    given = given or second_lookup.manifest
    if given is not None:
        log.info("step.cached", step=spec.function, key=given.key[:12], rows=given.rows)
    if spec.task_id:
        results.remember(spec.dag_id, spec.task_id, spec.function, made.key)
    return result_of(made, cached=given is not None)


def _second_answer(spec: StepSpec, store: Store, found: LookedUp, params: dict[str, Any]) -> Manifest | None:
    """Finds an earlier result of the same question with coerced parameters."""
    if not spec.cache:
        return None
    question = found.question.model_copy(update={"params": params})
    try:
        return answer(spec, store, question, found.inputs)[0]
    except KommunaError as error:  # the step is called instead
        log.warning("step.not_looked_up_again", reason=error.what)
        return None


def _last_result_was_unusable(spec: StepSpec, results: Results) -> bool:
    """Whether the task's last result could not be reused, so that other runs need not wait for this one."""
    last = results.last(spec.dag_id, spec.task_id, spec.function) if spec.task_id else None
    return last is not None and last.expires is None and not spec.expires and next(not_given(last), "") != ""


def _run_and_store(
    spec: StepSpec, store: Store, folder: Path, found: LookedUp, run: Run, second_lookup: SecondLookup
) -> Manifest:
    """Runs a step and stores its outputs and manifest."""
    inputs = found.inputs
    context = context_of(spec, found.question, inputs)
    started = datetime.now(UTC)
    log.info(
        "step.started",
        step=spec.function,
        question=found.digest[:12],
        why=found.miss,
        memory=spec.resources.memory,
        seconds=spec.resources.seconds,
    )
    local = wait_out(lambda: inputs.local(store, folder))
    ended, report = wait_out(lambda: _run_to_success(run, spec, local, context, folder, second_lookup))
    if second_lookup.manifest is not None:
        return second_lookup.manifest
    outputs = {name: _put(store, Path(w.path), w.kind, w.suffix, w.rows) for name, w in report.outputs.items()}
    uses = None
    if ended.recorder is not None:
        fields = context.model_dump(mode="json")
        uses = ended.recorder.uses(
            report.reported, inputs, fields, Analyses(store), listener_fault=ended.listener_fault
        )
    expires = report.reported.expires
    manifest = Manifest(
        key=hashlib.sha256(f"{found.digest} {uuid.uuid4()}".encode()).hexdigest(),
        team=spec.team,
        function=spec.function,
        outputs=outputs,
        plans={name: _put_plan(store, folder / f"{name}.plan", w.plan) for name, w in report.outputs.items() if w.plan},
        metrics=report.metrics,
        links=report.links,
        params=spec.params,
        lineage=tuple(found.lineage.model_copy(update={"input": name}) for name, found in inputs.flat().items()),
        question=found.question,
        uses=uses,
        cacheable=report.reported.cacheable and spec.cache and (ended.recorder is None or ended.recorder.is_cacheable),
        expires=started + duration(expires) if expires else None,
        version=kommuna.__version__,
        started=started,
        seconds=ended.seconds,
        peak_memory_bytes=ended.peak,
        dag_id=spec.dag_id,
        run_id=spec.run_id,
        task_id=spec.task_id,
    )
    wait_out(lambda: store.write_manifest(manifest))
    kept = uses is not None and manifest.cacheable and not ended.listener_fault
    if kept and (not uses.unknown or expires or spec.expires):  # type: ignore[union-attr]
        digests = [found.digest]
        if second_lookup.params is not None:
            digests.append(found.question.model_copy(update={"params": second_lookup.params}).digest)
        for digest in digests:
            wait_out(lambda digest=digest: Results(store).add(digest, manifest.key))  # type: ignore[misc]
    log.info(
        "step.done",
        step=spec.function,
        key=manifest.key[:12],
        rows=manifest.rows,
        bytes=manifest.bytes,
        seconds=round(ended.seconds, 2),
        peak_mib=ended.peak >> 20,
    )
    if uses is not None and uses.unknown and manifest.cacheable:
        log.info("step.not_kept_for_others", why="; ".join(uses.unknown[:3]))
    return manifest


def _put(store: Store, path: Path, kind: Kind, suffix: str, rows: int | None = None) -> Artifact:
    return wait_out(lambda: store.put(path, kind=kind, suffix=suffix, rows=rows))


def _put_plan(store: Store, path: Path, plan: str) -> Artifact:
    with store.faults():
        path.write_text(plan, encoding="utf-8")
    return _put(store, path, "plan", ".txt")


def _run_to_success(
    run: Run,
    spec: StepSpec,
    inputs: dict[str, LocalTree],
    context: StepContext,
    folder: Path,
    second_lookup: SecondLookup,
) -> tuple[_Ended, ChildReport]:
    ended = run(spec, inputs, context, folder, second_lookup)
    return ended, ChildReport() if second_lookup.manifest is not None else _report(ended, spec)


def _report(ended: _Ended, spec: StepSpec) -> ChildReport:
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
            fix="raise `seconds` in the step's resources, or give it less to do",
        )
    if ended.reason == "stopped":
        raise PlatformFault("the step was stopped by a signal", fix="nothing is left of it: run it again")
    how = f"signal {-ended.status}" if ended.status < 0 else f"exit code {ended.status}"
    again = "nothing is left of it: run it again"
    try:
        report = ChildReport.model_validate_json(ended.report)
    except ValidationError:
        raise PlatformFault(f"the step's process died ({how}) and left no report", fix=again) from None
    if report.failure is not None:
        raise report.failure.error()
    if ended.status != EXIT_DONE:
        raise PlatformFault(f"the step's process died ({how}) after its report", fix=again)
    return report


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

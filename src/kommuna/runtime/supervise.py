"""Runs one step: cache look-up, child process with limits, artifacts, manifest."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import structlog

import kommuna
from kommuna.errors import DataError, KommunaError
from kommuna.outages import wait_out
from kommuna.runtime import environment_record
from kommuna.runtime.child import ChildReport
from kommuna.runtime.process import CallStep, EndedProcess, in_child, report_of
from kommuna.runtime.second_lookup import SecondLookup
from kommuna.spec.caching import duration
from kommuna.spec.llm import SPENDING, done_name
from kommuna.spec.step import StepContext, StepResult, StepSpec
from kommuna.store import Artifact, Manifest, Store
from kommuna.store.analyses import Analyses
from kommuna.store.inputs import FoundFile, InputChanged, LocalTree
from kommuna.store.lookup import LookedUp, answer, context_of, look_up, result_of
from kommuna.store.manifest import Kind
from kommuna.store.results import Results
from kommuna.store.why import not_given

log = structlog.get_logger()

MAX_CHANGES = 5  # of an input between its look-up and its copy


def run_step(spec: StepSpec, run: CallStep = in_child, *, known: Sequence[FoundFile] = ()) -> StepResult:
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


def _run(spec: StepSpec, run: CallStep, known: Sequence[FoundFile]) -> StepResult:
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
            f"an input keeps changing while it is read: {source}",
            fix="write it elsewhere, and move it to its place when it is complete",
        )


def _result(spec: StepSpec, store: Store, folder: Path, found: LookedUp, run: CallStep) -> StepResult:
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
    spec: StepSpec, store: Store, folder: Path, found: LookedUp, run: CallStep, second_lookup: SecondLookup
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
    uses, environment = None, None
    if ended.recorder is not None:
        fields = context.model_dump(mode="json")
        uses = ended.recorder.uses(
            report.reported, inputs, fields, Analyses(store), listener_fault=ended.listener_fault
        )
        environment = wait_out(
            partial(environment_record.recorded, spec, store, folder, inputs=inputs, local=local, uses=uses)
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
        environment=environment,
        version=kommuna.__version__,
        started=started,
        seconds=ended.seconds,
        processor_seconds=ended.processor_seconds,
        peak_memory_bytes=ended.peak,
        dag_id=spec.dag_id,
        run_id=spec.run_id,
        task_id=spec.task_id,
    )
    wait_out(lambda: store.write_manifest(manifest))
    if any(name.startswith("llm.") for name in report.reported.services):
        done = f"{store.root}/shared/{SPENDING}/{done_name(found.digest)}"
        wait_out(lambda: store.write(done, manifest.key.encode()))  # what it was billed counts for no later run
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
        processor_seconds=round(ended.processor_seconds, 2),
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
    run: CallStep,
    spec: StepSpec,
    inputs: dict[str, LocalTree],
    context: StepContext,
    folder: Path,
    second_lookup: SecondLookup,
) -> tuple[EndedProcess, ChildReport]:
    ended = run(spec, inputs, context, folder, second_lookup)
    return ended, ChildReport() if second_lookup.manifest is not None else report_of(ended, spec)

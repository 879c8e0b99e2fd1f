"""Looks up a step's question in the cache, and the manifest that answers it. Imports no library of the steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from kommuna.errors import EXIT_DONE
from kommuna.spec.caching import duration
from kommuna.spec.resources import threads
from kommuna.spec.step import StepContext, StepResult, StepSpec
from kommuna.spec.versions import VERSIONS
from kommuna.store.analyses import Analyses
from kommuna.store.digests import NONE
from kommuna.store.inputs import FoundFile, Inputs, find_inputs
from kommuna.store.manifest import Manifest
from kommuna.store.parameters import canonical_params
from kommuna.store.present import Present, changes
from kommuna.store.question import Question, differences
from kommuna.store.results import Results
from kommuna.store.signatures import optional_inputs
from kommuna.store.store import Store
from kommuna.store.why import not_given

RESULT_LIMIT_BYTES = 4000  # size of a container's termination message


@dataclass(frozen=True)
class LookedUp:
    """The outcome of a look-up.

    Args:
        question: the step's question.
        inputs: the step's inputs.
        manifest: the manifest that answers the question, with intact artifacts; None for a miss.
        miss: the reason for a miss, in words.
    """

    question: Question
    inputs: Inputs
    manifest: Manifest | None
    miss: str = ""

    @cached_property
    def digest(self) -> str:
        """The question's digest."""
        return self.question.digest


def look_up(spec: StepSpec, store: Store, folder: Path, *, known: Sequence[FoundFile] = ()) -> LookedUp:
    """Finds the inputs of a step, its question, and a result of an earlier run that answers it.

    Args:
        spec: the step.
        store: its team's store.
        folder: where remote files are downloaded to.
        known: files that the step's operator found.

    Raises:
        KommunaError: an input is missing.
    """
    inputs = find_inputs(spec, store, folder, known=known)
    question = question_of(spec, inputs)
    manifest, miss = answer(spec, store, question, inputs) if spec.cache else (None, "the task has cache=False")
    return LookedUp(question, inputs, manifest, miss)


def question_of(spec: StepSpec, inputs: Inputs) -> Question:
    """Builds the question of a step with its resolved inputs."""
    bundle = Path(spec.bundle) if spec.bundle else None
    params = canonical_params(spec.function, spec.params, bundle=bundle)
    contents = inputs.contents()
    if NONE in contents.values():
        optional = optional_inputs(spec.function, bundle=bundle)
        contents = {name: found for name, found in contents.items() if found != NONE or name not in optional}
    return Question(
        function=spec.function,
        version=VERSIONS.get(spec.function),
        params=params,
        inputs=dict(sorted(contents.items())),
        threads=threads(spec.resources),
    )


def answer(spec: StepSpec, store: Store, question: Question, inputs: Inputs) -> tuple[Manifest | None, str]:
    """Returns a manifest that answers a question, with intact artifacts, or None and the reason in words.

    Args:
        spec: the step.
        store: its team's store.
        question: the step's question, whose candidates are compared, the newest first.
        inputs: the step's inputs.
    """
    context = context_of(spec, question, inputs).model_dump(mode="json")
    present = Present.of(spec, inputs, context, Analyses(store))
    results = Results(store)
    reasons = []
    for place, key in enumerate(results.candidates(question.digest)):
        manifest = store.manifest(key)
        if manifest is None:
            results.remove(question.digest, key)
            reasons.append("one of its artifacts is gone from the store")
            continue
        objection = next(_objections(manifest, spec, present, store), "")
        if not objection:
            store.record_use(key)
            if place:
                results.given(question.digest, key)
            return manifest, ""
        reasons.append(objection)
    return None, reasons[0] if reasons else _why_new(spec, question, results)


def _objections(manifest: Manifest, spec: StepSpec, present: Present, store: Store) -> Iterator[str]:
    """Yields the reasons why a run cannot reuse a manifest that answers its question."""
    if manifest.uses is None:
        yield "it was run by hand"
        return
    if not manifest.cacheable:
        yield "the step has cacheable=False"
    now = datetime.now(UTC)
    limits = [manifest.expires] if manifest.expires else []
    limits += [manifest.started + duration(spec.expires)] if spec.expires else []
    if not limits:
        yield from manifest.uses.unknown
    limits += [manifest.uses.until] if manifest.uses.until else []
    if limits and now >= min(limits):
        yield f"it expired at {min(limits):%Y-%m-%d %H:%M} UTC"
    yield from changes(manifest.uses, present)
    if not store.is_whole(manifest):
        yield "an artifact was damaged in the store"


def _why_new(spec: StepSpec, question: Question, results: Results) -> str:
    """Explains why nothing answers a question, by the differences from the task's last question."""
    last = results.last(spec.dag_id, spec.task_id, spec.function) if spec.task_id else None
    if last is None or last.question is None:
        return "it has not run before"
    found = list(differences(last.question, question))
    return "; ".join(found[:3]) or next(not_given(last), "its outputs are gone from the store")


def context_of(spec: StepSpec, question: Question, inputs: Inputs) -> StepContext:
    """Returns the context of a step's run, which is available to the step.

    Args:
        spec: the step.
        question: its question, whose digest is the context's key.
        inputs: the step's inputs, whose digests and manifests the step may read.
    """
    flat = inputs.flat()
    return StepContext(
        team=spec.team,
        dag_id=spec.dag_id,
        run_id=spec.run_id,
        task_id=spec.task_id,
        key=question.digest,
        inputs={name: found.bytes for name, found in flat.items()},
        manifests={name: found.lineage.manifest for name, found in flat.items() if found.lineage.manifest},
    )


def result_of(manifest: Manifest, *, cached: bool) -> StepResult:
    """Converts a manifest to the result that an operator receives."""
    return StepResult(
        exit_code=EXIT_DONE,
        key=manifest.key,
        cached=cached,
        outputs={name: artifact.filename for name, artifact in manifest.outputs.items()},
        metrics=manifest.metrics,
        links=manifest.links,
        rows=manifest.rows,
        bytes=manifest.bytes,
        seconds=manifest.seconds,
        processor_seconds=manifest.processor_seconds,
        peak_memory_bytes=manifest.peak_memory_bytes,
    )


def bounded(result: StepResult) -> StepResult:
    """Shortens a result to under 4 KB of JSON: drops the last metrics (the manifest has all), then cuts the failure."""
    metrics = dict(result.metrics)
    while len(result.model_dump_json().encode()) > RESULT_LIMIT_BYTES and metrics:
        for _ in range(max(1, len(metrics) // 10)):
            metrics.popitem()
        result = result.model_copy(update={"metrics": metrics})
    if result.failure is not None:
        rest = len(result.model_copy(update={"failure": None}).model_dump_json().encode())
        result = result.model_copy(update={"failure": result.failure.within(RESULT_LIMIT_BYTES - rest)})
    return result

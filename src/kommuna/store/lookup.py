"""Whether a step's work is done already: its key, and the manifest under it. Loads no library that steps use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kommuna.errors import EXIT_DONE
from kommuna.spec.step import StepResult, StepSpec
from kommuna.store.inputs import Inputs, find_inputs
from kommuna.store.key import cache_key, code_digest
from kommuna.store.manifest import Manifest
from kommuna.store.parameters import canonical_params
from kommuna.store.store import Store

RESULT_LIMIT_BYTES = 4000  # what a container's termination message holds


@dataclass(frozen=True)
class LookedUp:
    """A step's key, with all that went into it."""

    key: str
    code: str
    inputs: Inputs
    manifest: Manifest | None


def look_up(spec: StepSpec, store: Store, folder: Path) -> LookedUp:
    """Finds the inputs of a step, its key, and what an earlier run left under it.

    Args:
        folder: where remote files are downloaded to.
    Raises:
        KommunaError: an input or the step's module is not there.
    """
    inputs = find_inputs(spec, store, folder)
    bundle = Path(spec.bundle) if spec.bundle else None
    code = code_digest([spec.function.partition(":")[0], *inputs.modules], bundle=bundle)
    params = canonical_params(spec.function, spec.params, bundle=bundle)
    key = cache_key(spec.function, code, params, inputs.digests())
    return LookedUp(key, code, inputs, store.hit(key, spec.function) if spec.cache else None)


def result_of(manifest: Manifest, *, cached: bool) -> StepResult:
    """A manifest as the result that an operator gets."""
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
        peak_memory_bytes=manifest.peak_memory_bytes,
    )


def bounded(result: StepResult) -> StepResult:
    """The result, under 4 KB as JSON: metrics go from the end (the manifest has all), then the message is cut."""
    metrics = dict(result.metrics)
    while len(result.model_dump_json().encode()) > RESULT_LIMIT_BYTES and metrics:
        for _ in range(max(1, len(metrics) // 10)):
            metrics.popitem()
        result = result.model_copy(update={"metrics": metrics})
    if len(result.model_dump_json().encode()) > RESULT_LIMIT_BYTES:
        result = result.model_copy(update={"message": result.message[:1000]})
    return result

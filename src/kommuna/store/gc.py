"""`kommuna gc`: removes manifests and artifacts that nothing refers to."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from kommuna.store.analyses import Analyses
from kommuna.store.manifest import Manifest
from kommuna.store.results import Results
from kommuna.store.store import Store

_SMALL = ("json", "report")
# An artifact is stored before its manifest is written: a younger one may belong to a running step.
GRACE_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class Collected:
    """The counts of what `collect` removed, or would remove."""

    manifests: int
    artifacts: int
    bytes: int


def collect(
    store: Store,
    *,
    registered: Collection[str] = (),
    keep_days: float | None = None,
    grace_seconds: float = GRACE_SECONDS,
    dry_run: bool = False,
) -> Collected:
    """Removes unreferenced artifacts and, with `keep_days`, old manifests.

    Never removed: an artifact that a kept manifest or a registered model refers to; a manifest that a registered
    model or a kept manifest comes from, however old. The manifests of what was done with a registered model, its
    promotion and its predictions, stay as records: the small documents with them, the tables not.

    Args:
        store: the team's store.
        registered: artifact digests and manifest keys that the model registry refers to.
        keep_days: manifests that were neither written nor reused for this many days are removed; None keeps all.
        grace_seconds: younger artifacts, and manifests used more recently, are kept: a run may still need them.
        dry_run: whether to only count.
    """
    manifests = {manifest.key: manifest for manifest in store.records()}
    oldest = None
    if keep_days is not None:
        oldest = datetime.now(UTC) - max(timedelta(days=keep_days), timedelta(seconds=grace_seconds))
    kept = _kept(store, manifests, set(registered), oldest)
    records = _records(manifests, set(registered)) - kept
    expired = [key for key in manifests if key not in kept and key not in records]
    if not dry_run:
        results = Results(store)
        for key in expired:
            question = manifests[key].question
            store.remove_manifest(key)
            if question is not None:
                results.remove(question.digest, key)
        results.forget(set(expired))
        _forget_analyses(store, [manifests[key] for key in kept])
        store.sweep()
    referred = set(registered) | {artifact.digest for key in kept for artifact in manifests[key].artifacts}
    referred |= {
        artifact.digest for key in records for artifact in manifests[key].outputs.values() if artifact.kind in _SMALL
    }
    count = size = 0
    for path, length, age in store.artifacts():
        digest = path.rsplit("/", 1)[1].partition(".")[0]
        if digest not in referred and age >= grace_seconds:
            count += 1
            size += length
            if not dry_run:
                store.remove_file(path)
    return Collected(manifests=len(expired), artifacts=count, bytes=size)


def _forget_analyses(store: Store, kept: Collection[Manifest]) -> None:
    """Removes analyses that no kept manifest needs."""
    analyses = Analyses(store)
    reached = [manifest.uses.reached for manifest in kept if manifest.uses is not None]
    analyses.forget_all_but({analyses.path(one.entry_points, one.libraries) for one in reached if one is not None})


def _records(manifests: dict[str, Manifest], registered: set[str]) -> set[str]:
    """Returns the manifests of steps that used a registered model, and of those that used their small outputs.

    These are its evaluation, its registration and its predictions, and by the registration its promotion.
    """
    found = {key for key, one in manifests.items() if any(line.digest in registered for line in one.lineage)}
    documents = {a.digest for key in found for a in manifests[key].outputs.values() if a.kind == "json"}
    return found | {key for key, one in manifests.items() if any(line.digest in documents for line in one.lineage)}


def _kept(store: Store, manifests: dict[str, Manifest], registered: set[str], oldest: datetime | None) -> set[str]:
    if oldest is None:
        return set(manifests)
    todo = [
        key
        for key, manifest in manifests.items()
        if manifest.started >= oldest
        or key in registered
        or any(artifact.digest in registered for artifact in manifest.outputs.values())
        or (store.last_use(key) or oldest) > oldest
    ]
    kept: set[str] = set()
    while todo:
        key = todo.pop()
        if key in kept or key not in manifests:
            continue
        kept.add(key)
        todo += [line.manifest for line in manifests[key].lineage if line.manifest]
    return kept

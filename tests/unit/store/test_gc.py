"""What `gc` removes, and what it never removes."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kommuna.store import Artifact, Lineage, Manifest, Store
from kommuna.store.gc import collect


def put(store: Store, content: str) -> Artifact:
    with store.scratch() as folder:
        (folder / "out").write_text(content)
        return store.put(folder / "out", kind="json", suffix=".json")


def add(store: Store, key: str, artifact: Artifact, *, days: float = 0, upstream: str | None = None) -> None:
    lineage = (Lineage(input="x", digest="d", manifest=upstream),) if upstream else ()
    started = datetime.now(UTC) - timedelta(days=days)
    store.write_manifest(
        Manifest(
            key=key, team="support", function="m:f", outputs={"result": artifact}, version="0",
            started=started, seconds=1.0, peak_memory_bytes=1, lineage=lineage,
        )
    )  # fmt: skip
    os.utime(store.manifest_url(key).removeprefix("file://"), (started.timestamp(),) * 2)


def test_only_unreferenced_artifacts_are_removed(store: Store) -> None:
    kept, orphan = put(store, "kept"), put(store, "orphan")
    add(store, "1" * 64, kept)
    assert collect(store, grace_seconds=0).artifacts == 1
    assert store.has(kept)
    assert not store.has(orphan)


def test_a_young_orphan_may_belong_to_a_running_step(store: Store) -> None:
    orphan = put(store, "orphan")
    assert collect(store).artifacts == 0
    assert store.has(orphan)


def test_a_dry_run_counts_and_removes_nothing(store: Store) -> None:
    orphan = put(store, "orphan")
    found = collect(store, grace_seconds=0, dry_run=True)
    assert (found.artifacts, found.bytes) == (1, len("orphan"))
    assert store.has(orphan)


def test_old_manifests_are_removed_except_those_that_a_registered_model_comes_from(store: Store) -> None:
    table, model, other = put(store, "table"), put(store, "model"), put(store, "other")
    add(store, "1" * 64, table, days=90)
    add(store, "2" * 64, model, days=90, upstream="1" * 64)
    add(store, "3" * 64, other, days=90)
    found = collect(store, registered=[model.digest], keep_days=30, grace_seconds=0)
    assert (found.manifests, found.artifacts) == (1, 1)
    assert store.manifest("1" * 64) is not None
    assert store.manifest("2" * 64) is not None
    assert store.manifest("3" * 64) is None
    assert store.has(table)
    assert not store.has(other)


def test_the_lineage_of_a_young_manifest_is_kept_however_old(store: Store) -> None:
    add(store, "1" * 64, put(store, "table"), days=90)
    add(store, "2" * 64, put(store, "labels"), days=1, upstream="1" * 64)
    assert collect(store, keep_days=30, grace_seconds=0).manifests == 0


def test_a_registered_artifact_is_kept_even_without_a_manifest(store: Store, tmp_path: Path) -> None:
    model = put(store, "model")
    assert collect(store, registered=[model.digest], grace_seconds=0).artifacts == 0
    assert store.has(model)


def test_a_reused_result_is_in_use_with_its_lineage(store: Store) -> None:
    add(store, "1" * 64, put(store, "table"), days=90)
    add(store, "2" * 64, put(store, "labels"), days=90, upstream="1" * 64)
    add(store, "3" * 64, put(store, "other"), days=90)
    store.record_use("2" * 64)
    found = collect(store, keep_days=30, grace_seconds=0)
    assert (found.manifests, found.artifacts) == (1, 1)
    assert store.manifest("2" * 64) is not None
    assert store.manifest("1" * 64) is not None


def test_results_used_today_are_kept_however_small_keep_days_is(store: Store) -> None:
    add(store, "1" * 64, put(store, "made just now"))
    add(store, "2" * 64, put(store, "made long ago, used just now"), days=90)
    store.record_use("2" * 64)
    add(store, "3" * 64, put(store, "made long ago"), days=90)
    assert collect(store, keep_days=0).manifests == 1
    assert store.manifest("1" * 64) is not None
    assert store.manifest("2" * 64) is not None


def used(store: Store, key: str, outputs: dict[str, Artifact], *digests: str) -> None:
    """Adds an old manifest of a step whose inputs have the digests."""
    lineage = tuple(Lineage(input=f"x{i}", digest=digest) for i, digest in enumerate(digests))
    started = datetime.now(UTC) - timedelta(days=90)
    store.write_manifest(
        Manifest(
            key=key, team="support", function="m:f", outputs=outputs, version="0", started=started, seconds=1.0,
            peak_memory_bytes=1, lineage=lineage,
        )
    )  # fmt: skip
    os.utime(store.manifest_url(key).removeprefix("file://"), (started.timestamp(),) * 2)


def test_records_of_a_registered_models_promotion_and_predictions_stay_without_their_tables(store: Store) -> None:
    model, version, promotion, other = (put(store, name) for name in ("model", "version", "promotion", "other"))
    rows = put(store, "predictions").model_copy(update={"kind": "table"})
    used(store, "1" * 64, {"version": version}, model.digest)
    used(store, "2" * 64, {"promotion": promotion}, version.digest)
    used(store, "3" * 64, {"predictions": rows}, model.digest)
    used(store, "4" * 64, {"result": other}, "a" * 64)
    for _ in range(2):  # also once the tables are gone
        collect(store, registered=[model.digest], keep_days=30, grace_seconds=0)
        assert [store.record(key * 64) is not None for key in "1234"] == [True, True, True, False]
        assert [store.has(one) for one in (model, version, promotion, rows, other)] == [True, True, True, False, False]
    assert store.manifest("3" * 64) is None  # not reused: its table is gone

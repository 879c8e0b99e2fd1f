"""The store on a real S3 server: the same code path, only the URL differs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import boto3
import polars as pl
import pytest
import yaml

from kommuna.errors import EXIT_DONE, IntegrityError, StoreUnreachable
from kommuna.spec.step import StepResult, StepSpec, StoreAddress
from kommuna.store import Artifact, Store
from kommuna.store.gc import collect
from kommuna.store.lookup import look_up
from kommuna.store.results import Results


@pytest.fixture(scope="module")
def address(s3: dict[str, str]) -> StoreAddress:
    return StoreAddress(url="s3://artifacts/kommuna", options={"key": "a", "secret": "b", "client_kwargs": s3})


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "s3_steps.py").write_text(
        "import polars as pl\n"
        "def make(*, rows: int = 10) -> pl.LazyFrame:\n    return pl.LazyFrame({'id': range(rows)})\n"
        "def double(t: pl.LazyFrame) -> pl.LazyFrame:\n    return t.with_columns(two=pl.col('id') * 2)\n"
        "def bad(t: pl.LazyFrame) -> pl.LazyFrame:\n    raise RuntimeError('no')\n"
    )
    return tmp_path


def run(address: StoreAddress, bundle: Path, function: str, *options: str, **fields: object) -> StepResult:
    spec = StepSpec.model_validate(
        {"function": f"s3_steps:{function}", "team": "support", "store": address, "bundle": str(bundle)} | fields
    )
    result = bundle / "result.json"
    subprocess.run(
        [sys.executable, "-m", "kommuna.runtime", "--result", str(result), *options],
        input=spec.model_dump_json(), text=True, capture_output=True, check=False, env={**os.environ},
    )  # fmt: skip
    return StepResult.model_validate_json(result.read_bytes())


def test_steps_run_cache_and_chain_on_s3(address: StoreAddress, bundle: Path, tmp_path: Path) -> None:
    made = run(address, bundle, "make", params={"rows": 3})
    assert (made.exit_code, made.cached) == (EXIT_DONE, False)
    assert run(address, bundle, "make", params={"rows": 3}).cached
    doubled = run(address, bundle, "double", inputs={"t": {"manifest": made.key}})
    store = Store(address, "support")
    manifest = store.manifest(doubled.key)
    assert manifest is not None
    assert pl.read_parquet(store.fetch(manifest.outputs["result"], tmp_path))["two"].to_list() == [0, 2, 4]
    assert store.url(manifest.outputs["result"]).startswith("s3://artifacts/kommuna/support/artifacts/")


def test_a_failed_step_leaves_nothing_on_s3(address: StoreAddress, bundle: Path) -> None:
    made = run(address, bundle, "make", params={"rows": 5})
    store = Store(address, "support")
    before = sorted(path for path, _, _ in store.artifacts())
    assert run(address, bundle, "bad", inputs={"t": {"manifest": made.key}}).exit_code == 1
    assert sorted(path for path, _, _ in store.artifacts()) == before


def test_a_changed_object_is_found_when_it_is_read(address: StoreAddress, bundle: Path, tmp_path: Path) -> None:
    made = run(address, bundle, "make", params={"rows": 7})
    store = Store(address, "support")
    manifest = store.manifest(made.key)
    assert manifest is not None
    artifact = manifest.outputs["result"]
    raw = bytearray(store.read(artifact))
    raw[10] ^= 1
    overwrite(address, artifact, bytes(raw))
    with pytest.raises(IntegrityError, match="was changed in the store"):
        store.fetch(artifact, tmp_path)


def test_a_damaged_object_is_made_again_and_a_hit_counts_as_a_use_on_s3(
    address: StoreAddress, bundle: Path, tmp_path: Path
) -> None:
    made = run(address, bundle, "make", params={"rows": 33})
    store = Store(address, "support")
    manifest = store.manifest(made.key)
    assert manifest is not None
    artifact = manifest.outputs["result"]
    before = store.last_use(made.key)
    time.sleep(1.1)  # S3 dates objects to the second
    assert run(address, bundle, "make", params={"rows": 33}).cached
    after = store.last_use(made.key)
    assert before is not None
    assert after is not None
    assert after > before
    other = bytes(artifact.bytes)
    store.fs.pipe_file(store._artifact_path(artifact), other)
    assert run(address, bundle, "make", params={"rows": 33}, cache=False).exit_code == EXIT_DONE
    assert pl.read_parquet(store.fetch(artifact, tmp_path)).height == 33
    store.fs.pipe_file(store._artifact_path(artifact), other)
    broken = run(address, bundle, "double", inputs={"t": {"manifest": made.key}})
    assert "it has been removed" in broken.message
    assert not run(address, bundle, "make", params={"rows": 33}).cached
    assert run(address, bundle, "double", inputs={"t": {"manifest": made.key}}).exit_code == EXIT_DONE


def test_a_step_whose_object_was_overwritten_with_as_many_bytes_runs_again(address: StoreAddress, bundle: Path) -> None:
    made = run(address, bundle, "make", params={"rows": 44})
    store = Store(address, "support")
    manifest = store.manifest(made.key)
    assert manifest is not None
    artifact = manifest.outputs["result"]
    overwrite(address, artifact, bytes(artifact.bytes))
    again = run(address, bundle, "make", params={"rows": 44})
    assert (again.exit_code, again.cached) == (EXIT_DONE, False)
    assert store.intact(artifact)
    assert run(address, bundle, "make", params={"rows": 44}).cached


def test_objects_are_read_only_if_they_were_written_since(
    address: StoreAddress, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run(address, bundle, "make", params={"rows": 55})
    store = Store(address, "support")
    manifest = store.manifest(made.key)
    assert manifest is not None
    artifact = manifest.outputs["result"]
    read = []
    digest_of = store._digest
    monkeypatch.setattr(store, "_digest", lambda path: read.append(path) or digest_of(path))
    assert store.is_whole(manifest)
    assert read == []
    overwrite(address, artifact, store.read(artifact), in_parts=True)  # the same bytes under another mark
    assert store.is_whole(manifest)
    assert len(read) == 1
    overwrite(address, artifact, bytes(artifact.bytes))
    assert not store.is_whole(manifest)
    assert not store.has(artifact)


def overwrite(address: StoreAddress, artifact: Artifact, content: bytes, *, in_parts: bool = False) -> None:
    """Writes an object without the store, as another program would."""
    client = boto3.client("s3", aws_access_key_id="a", aws_secret_access_key="b", **address.options["client_kwargs"])
    where = {"Bucket": "artifacts", "Key": Store(address, "support").url(artifact).removeprefix("s3://artifacts/")}
    if not in_parts:
        client.put_object(**where, Body=content)
        return
    upload = client.create_multipart_upload(**where)["UploadId"]
    part = client.upload_part(**where, UploadId=upload, PartNumber=1, Body=content)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts)


def test_three_concurrent_runs_compute_once_on_s3(address: StoreAddress, bundle: Path, tmp_path: Path) -> None:
    (bundle / "slow.py").write_text(
        "import time, uuid\ndef f() -> dict[str, str]:\n    time.sleep(3)\n    return {'n': str(uuid.uuid4())}\n"
    )
    fields = {"function": "slow:f", "team": "support", "store": address.model_dump(), "bundle": str(bundle)}
    spec = StepSpec.model_validate(fields).model_dump_json()
    command = [sys.executable, "-m", "kommuna.runtime", "--spec-json", spec, "--result"]
    started = [
        subprocess.Popen([*command, str(tmp_path / f"{n}.json")], stdout=subprocess.PIPE, text=True) for n in range(3)
    ]
    said = [process.communicate(timeout=120)[0] for process in started]
    results = [json.loads((tmp_path / f"{n}.json").read_text()) for n in range(3)]
    assert sorted(result["cached"] for result in results) == [False, True, True], said
    assert len({result["key"] for result in results}) == 1
    store = Store(address, "support")
    assert store.fs.find(f"{store.root}/claims") == []


def test_a_claim_whose_holder_is_gone_is_taken_over_on_s3(
    address: StoreAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kommuna.store.results.LEASE_SECONDS", 2.0)
    store = Store(address, "support")
    question = "ab" * 32
    store.fs.pipe_file(f"{store.root}/claims/ab/{question}", b"a run that was killed")
    with Results(store).claim(question):
        assert store.fs.cat_file(f"{store.root}/claims/ab/{question}") != b"a run that was killed"
    assert store.fs.find(f"{store.root}/claims") == []


def test_a_file_downloaded_by_the_operator_is_not_downloaded_again(
    address: StoreAddress, bundle: Path, tmp_path: Path
) -> None:
    store = Store(address, "support")
    pl.DataFrame({"id": [1, 2]}).write_parquet(tmp_path / "once.parquet")
    store.put_inbox(tmp_path / "once.parquet", "inbox/once.parquet")
    inputs = {"t": {"url": "store://inbox/once.parquet"}}
    spec = StepSpec.model_validate(
        {"function": "s3_steps:double", "team": "support", "store": address, "bundle": str(bundle), "inputs": inputs}
    )
    known = tmp_path / "known.json"
    with store.scratch() as folder:
        files = look_up(spec, store, folder).inputs.files()
        known.write_text(json.dumps([file.model_dump(mode="json") for file in files]))
        store.fs.rm(f"{store.root}/inbox/once.parquet")
        result = run(address, bundle, "double", "--known", str(known), inputs=inputs)
    assert (result.exit_code, result.cached) == (EXIT_DONE, False)
    manifest = store.manifest(result.key)
    assert manifest is not None
    assert pl.read_parquet(store.fetch(manifest.outputs["result"], tmp_path))["two"].to_list() == [2, 4]


def test_inbox_files_are_read_from_the_teams_prefix(address: StoreAddress, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("id\n1\n")
    store = Store(address, "support")
    store.put_inbox(tmp_path / "x.csv", "inbox/x.csv")
    assert store.inbox_file("inbox/x.csv", tmp_path).read_text() == "id\n1\n"
    assert not Store(address, "fraud").inbox_file("inbox/x.csv", tmp_path).exists()


def test_gc_removes_orphans_on_s3(address: StoreAddress, tmp_path: Path) -> None:
    store = Store(address, "orphans")
    (tmp_path / "out").write_text("nobody's")
    artifact = store.put(tmp_path / "out", kind="json", suffix=".json")
    assert collect(store, grace_seconds=0).artifacts == 1
    assert not store.has(artifact)


def test_an_unreachable_store_is_reported() -> None:
    options = {
        "key": "a",
        "secret": "b",
        "client_kwargs": {"endpoint_url": "http://127.0.0.1:9", "region_name": "us-east-1"},
    }
    store = Store(
        StoreAddress(url="s3://artifacts/x", options=options | {"config_kwargs": {"retries": {"max_attempts": 1}}}),
        "support",
    )
    with pytest.raises(StoreUnreachable, match="the artifact store does not answer"):
        store.manifest("a" * 64)


def test_a_task_that_waited_has_all_its_logs_in_the_bucket(
    address: StoreAddress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kommuna.airflow.server.task_logs import REMOTE_TASK_LOG

    platform = {"teams": {"support": {"bundle": "dags"}}, "store": address.url, "store_options": address.options}
    (tmp_path / "kommuna.yaml").write_text(yaml.safe_dump(platform))
    monkeypatch.setenv("KOMMUNA_PLATFORM", str(tmp_path / "kommuna.yaml"))
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(tmp_path))
    log = "support/logs/dag_id=support__x/run_id=a[1]+00:00/task_id=t/attempt=1.log"
    assert REMOTE_TASK_LOG.read(log, ti=None) == ([], None)  # type: ignore[arg-type]
    for name, text in ((log, "deferred\n"), (f"{log}.trigger.7.log", "waiting\n"), (log, "resumed\n")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        REMOTE_TASK_LOG.upload(name)
    places, texts = REMOTE_TASK_LOG.read(log, ti=None)  # type: ignore[arg-type]
    assert texts == ["deferred\nresumed\n", "waiting\n"]
    assert places[0] == f"{address.url}/{log}"

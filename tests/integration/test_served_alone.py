"""A registered version in an environment made from its requirements alone: the answers of the batch steps, its size, its speed.

`pytest -s` prints size, cold start and latency.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import requests

from kommuna.demo.messages import message_blocks
from kommuna.spec.table import TableSchema
from kommuna.steps.etl.prepare import prepare_messages
from kommuna.steps.registry.packaged import packaged
from kommuna.steps.registry.service import Service
from kommuna.steps.training.predict import predict
from kommuna.steps.training.train import train_classifier

ROOT = Path(__file__).resolve().parents[2]
BYTES, MILLISECONDS = 500e6, 10.0
_USE = """
import json, sys, time
started = time.perf_counter()
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
texts = json.load(open(sys.argv[2]))
model.predict(pd.DataFrame({"text": texts[:1]}))
cold, found, taken = time.perf_counter() - started, [], []
for text in texts:
    before = time.process_time()
    found.append(model.predict(pd.DataFrame({"text": [text]})).iloc[0].to_dict())
    taken.append((time.process_time() - before) * 1e3)
together = model.predict(pd.DataFrame({"text": texts})).to_dict("records")
taken.sort()
import kommuna
print(json.dumps({"cold": cold, "p50": taken[len(taken) // 2], "p95": taken[len(taken) * 95 // 100], "one by one": found,
                  "together": together, "kommuna": kommuna.__file__,
                  "loaded": [name for name in ("airflow", "torch", "sklearn", "pyarrow") if name in sys.modules]}))
"""


@pytest.fixture(scope="module")
def raw() -> pl.DataFrame:
    return next(message_blocks(1000, seed=3, stream=1, first_id=1)).select("id", "text")


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory, raw: pl.DataFrame) -> tuple[Path, list[dict[str, Any]]]:
    """The files of a version, and what the batch steps give for the raw messages."""
    import mlflow

    folder = tmp_path_factory.mktemp("version")
    rows = next(message_blocks(1500, seed=1, stream=0, first_id=1))
    rows.select("id", "text", "tag").write_parquet(folder / "learn.parquet")
    raw.write_parquet(folder / "raw.parquet")
    columns = {"id": "String", "text": "String"}
    options: dict[str, Any] = {"names": ("Иван", "Мария")}
    learn = prepare_messages(
        folder / "learn.parquet", table_schema=TableSchema(columns=columns | {"tag": "String"}), **options
    )
    ready = prepare_messages(folder / "raw.parquet", table_schema=TableSchema(columns=columns), **options)
    table = learn.table.collect()
    tags = sorted(table["tag"].unique())
    p = np.full((len(table), len(tags)), 0.1 / (len(tags) - 1), np.float32)
    p[np.arange(len(table)), [tags.index(tag) for tag in table["tag"]]] = 0.9
    labels = table.select(
        "id", pl.col("tag").cast(pl.Enum(tags)), confidence=pl.lit(0.9, pl.Float32),
        probabilities=pl.Series(p, dtype=pl.Array(pl.Float32, len(tags))),
    )  # fmt: skip
    dev = table.tail(200)
    model = train_classifier(table.head(1300).drop("tag").lazy(), labels.head(1300).lazy(), dev.lazy()).model
    mlflow.pyfunc.save_model(str(folder / "model"), **packaged(Service(model, learn.preparation), dev.head(3), folder))
    batch = predict(ready.table, model).predictions.collect()
    assert batch["id"].equals(raw["id"])
    return folder / "model", batch.drop("id").with_columns(pl.col("tag").cast(pl.String)).to_dicts()


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, version: tuple[Path, Any]) -> Path:
    """The interpreter of an environment that has only the version's requirements."""
    uv = ROOT / ".uv/bin/uv"
    assert uv.exists(), "no uv: `make setup-dev` brings it"
    folder = tmp_path_factory.mktemp("alone") / "venv"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    requirements = version[0] / "requirements.txt"
    subprocess.run([uv, "pip", "install", "--quiet", "--python", folder / "bin/python", "-r", requirements], check=True)
    return folder / "bin/python"


def test_raw_texts_are_answered_as_by_the_batch_steps(
    version: tuple[Path, list[dict[str, Any]]], python: Path, raw: pl.DataFrame, tmp_path: Path
) -> None:
    model, batch = version
    (tmp_path / "texts.json").write_text(json.dumps(raw["text"].to_list()))
    done = subprocess.run(
        [python, "-c", _USE, model, tmp_path / "texts.json"], capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    size = sum(path.stat().st_size for path in python.parents[1].rglob("*") if path.is_file() and not path.is_symlink())
    print(
        f"\nenvironment {size / 1e6:.0f} MB, cold start {found['cold']:.1f} s, "
        f"p50 {found['p50']:.1f} ms and p95 {found['p95']:.1f} ms of processor time per text"
    )
    assert found["together"] == batch
    assert found["one by one"] == batch
    assert found["loaded"] == []
    assert Path(found["kommuna"]).is_relative_to(model)
    assert size < BYTES
    assert found["p95"] < MILLISECONDS


def test_mlflow_serves_it(
    version: tuple[Path, list[dict[str, Any]]], python: Path, raw: pl.DataFrame, free_port: Callable[[], int]
) -> None:
    port = free_port()
    command = ["models", "serve", "-m", version[0], "--env-manager", "local", "--port", port, "--host", "127.0.0.1"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PYTHON"))}
    environment["PATH"] = f"{python.parent}:{environment['PATH']}"
    server = subprocess.Popen(
        [python, "-m", "mlflow", *map(str, command)], env=environment, cwd="/", start_new_session=True
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, server)
        asked = {"dataframe_split": {"columns": ["text"], "data": [[text] for text in raw["text"]]}}
        answer = requests.post(f"{url}/invocations", json=asked, timeout=120)
        assert answer.ok, answer.text
        assert answer.json()["predictions"] == version[1]
        one = {"dataframe_records": [{"text": raw["text"][0]}], "params": {"probabilities": True, "explain": True}}
        row = requests.post(f"{url}/invocations", json=one, timeout=60).json()["predictions"][0]
        assert max(row["probabilities"]) == pytest.approx(row["confidence"])
        assert {"word", "adds"} == set(row["words"][0])
        wrong = requests.post(f"{url}/invocations", json={"dataframe_records": [{"body": "a"}]}, timeout=60)
        assert wrong.status_code == 400
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and server.poll() is None:
        try:
            if requests.get(f"{url}/ping", timeout=5).ok:
                return
        except requests.RequestException:
            time.sleep(0.2)
    pytest.fail(f"the server does not answer (exit code {server.poll()})")


def test_the_image_that_mlflow_describes_installs_only_public_packages(
    version: tuple[Path, Any], tmp_path: Path
) -> None:
    command = ["models", "generate-dockerfile", "-m", version[0], "-d", tmp_path / "image", "--env-manager", "local"]
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", *map(str, command)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    described = (tmp_path / "image/Dockerfile").read_text()
    carried = next((tmp_path / "image").rglob("requirements.txt")).read_text()
    assert "COPY" in described
    assert "kommuna" not in described + carried
    assert next((tmp_path / "image").rglob("code/kommuna/steps/registry/service.py"))

"""A real MLflow server with workspaces, on SQLite and a free port on loopback; and a small trained tagger."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kommuna.clients.mlflow import MlflowApi
from kommuna.errors import RegistryUnreachable
from kommuna.steps.training.evaluation.scores import Scores
from kommuna.steps.training.tagger import Tagger
from kommuna.steps.training.train import train_classifier

WORKSPACES = ("support", "fraud")


def free_port() -> int:
    """Returns a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an MLflow server that has the workspaces of two teams."""
    folder = tmp_path_factory.mktemp("mlflow")
    database, port = f"sqlite:///{folder}/mlflow.db", free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    mlflow = [sys.executable, "-m", "mlflow"]
    # Several first-touching processes break a fresh SQLite store for good: make its tables first.
    subprocess.run([*mlflow, "db", "upgrade", database], check=True, env=environment, capture_output=True)
    with Path(folder, "log").open("w") as log:
        server = subprocess.Popen(
            [
                *mlflow,
                "server",
                *("--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--enable-workspaces"),
                *("--backend-store-uri", database, "--artifacts-destination", Path(folder, "artifacts").as_uri()),
            ],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url, server, Path(folder, "log"))
        for name in WORKSPACES:
            MlflowApi(url).make_workspace(name)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    try:
        MlflowApi(url).wait(seconds=120)
    except RegistryUnreachable:
        pytest.fail(f"MLflow did not start (exit code {server.poll()}):\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def messages() -> pl.DataFrame:
    """Messages of two tags."""
    random = np.random.default_rng(0)
    tags = [str(t) for t in random.choice(["card", "credit"], 120)]
    words = {"card": ["card", "pin", "карта"], "credit": ["loan", "rate", "кредит"]}
    texts = [f"{random.choice(words[t])} {random.choice(['please', 'help', 'today'])}" for t in tags]
    return pl.DataFrame({"id": np.arange(120), "text": texts, "tag": tags})


@pytest.fixture(scope="session")
def tagger(messages: pl.DataFrame) -> Tagger:
    """A tagger of those messages."""
    p = np.array([[0.9, 0.1] if t == "card" else [0.1, 0.9] for t in messages["tag"]], np.float32)
    labels = messages.select(
        "id",
        pl.col("tag").cast(pl.Enum(["card", "credit"])),
        confidence=pl.lit(0.9, pl.Float32),
        probabilities=pl.Series(p, dtype=pl.Array(pl.Float32, 2)),
    )
    weak, dev = messages.drop("tag").head(80), messages.slice(80)
    return train_classifier(weak.lazy(), labels.head(80).lazy(), dev.lazy()).model


@pytest.fixture
def scores() -> Scores:
    """An evaluation."""
    metrics = {"accuracy": 0.8, "f1_macro": 0.75, "baseline.dev_only.accuracy": 0.7}
    return Scores(rows=100, multi_label=False, metrics=metrics, per_tag=(), confusions=(), reliability=())

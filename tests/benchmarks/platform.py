"""Overhead of a step with the bare runtime and under Airflow, over the plain function; and the demo's two runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kommuna.clients.airflow import AirflowApi
from kommuna.embedded import Embedded
from kommuna.spec.installation import find_installation
from kommuna.spec.step import StepSpec

ROOT = Path(__file__).resolve().parent.parent.parent
STEPS = 5
STEP = "import polars as pl\n\ndef one(table: pl.LazyFrame | None = None, *, turn: int) -> pl.LazyFrame:\n    return pl.LazyFrame({'id': range(1000), 'turn': [turn] * 1000})\n"
DAG = f"""
from airflow.sdk import Param
from kommuna.airflow import StepOperator, TeamDag

with TeamDag("bench", params={{"salt": Param(0, type="integer")}}):
    before = None
    for i in range({STEPS}):
        before = StepOperator(
            task_id=f"s{{i}}", function="bench_steps:one", inputs={{"table": before}},
            parameters={{"turn": "{{{{ params.salt * 100 + " + str(i) + " }}}}"}},
        )
"""


def results() -> Iterator[dict[str, Any]]:
    """Yields name, ours and peer in seconds, and their ratio."""
    with tempfile.TemporaryDirectory(prefix="kommuna-bench-") as name:
        site = _site(Path(name))
        bare = _bare()
        runtime = _runtime(site)
        yield _line("step by the runtime over the bare function", runtime, bare)
        yield _line("cached step by the runtime over the bare function", _runtime(site), bare)
        yield from _demo(site)
        yield from _airflow(site, bare)


def _line(name: str, ours: float, peer: float) -> dict[str, Any]:
    return {
        "name": name,
        "ours": round(ours, 4),
        "peer": round(peer, 4),
        "ratio": round(ours / peer, 3),
        "over": round(ours - peer, 4),
    }


def _site(folder: Path) -> Path:
    import shutil

    shutil.copytree(ROOT / "dags", folder / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "dags/fraud/bench_steps.py").write_text(STEP)
    (folder / "dags/fraud/bench.py").write_text(DAG)
    text = (ROOT / "kommuna.yaml").read_text()
    (folder / "kommuna.yaml").write_text(f"{text}\nports: {{airflow: {_free_port()}, mlflow: {_free_port()}}}\n")
    return folder


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _bare() -> float:
    """Measures the function and writing its table, in a process with polars loaded: the median of five."""
    import polars as pl

    times = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(5):
            began = time.perf_counter()
            pl.LazyFrame({"id": range(1000), "turn": [turn] * 1000}).sink_parquet(Path(folder, f"{turn}.parquet"))
            times.append(time.perf_counter() - began)
    return sorted(times)[2]


def _runtime(site: Path) -> float:
    """Measures `python -m kommuna.runtime` from start to end: the median of five steps; the second call only has hits."""
    times = []
    for turn in range(5):
        spec = StepSpec.model_validate(
            {"function": "bench_steps:one", "team": "fraud", "store": {"url": (site / "store").as_uri()},
             "params": {"turn": turn}, "bundle": str(site / "dags/fraud")}
        )  # fmt: skip
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "kommuna.runtime"],
            input=spec.model_dump_json(),
            text=True,
            check=True,
            capture_output=True,
        )
        times.append(time.perf_counter() - began)
    return sorted(times)[2]


def _demo(site: Path) -> Iterator[dict[str, Any]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "KOMMUNA"))}
    seconds, pipelines = [], []
    for _ in range(2):
        began = time.perf_counter()
        subprocess.run(
            [str(Path(sys.executable).with_name("kommuna")), "demo"],
            cwd=site,
            env=environment,
            check=True,
            capture_output=True,
        )
        seconds.append(time.perf_counter() - began)
        pipelines.append(json.loads((site / "build/demo.json").read_text())["pipeline_seconds"])
    yield _line("demo, second run over the first, start to end", seconds[1], seconds[0])
    yield _line("demo, second run over the first, the DAGs alone", pipelines[1], pipelines[0])


def _airflow(site: Path, bare: float) -> Iterator[dict[str, Any]]:
    """Measures a chain of steps under Airflow: the DAG's wall time by the number of steps."""
    platform = Embedded(find_installation(site))
    try:
        access = platform.up()
        api = AirflowApi(access.airflow, platform.token())
        api.wait_for_dags(["fraud__bench"])
        for name, salt in (
            ("warm-up", 1),
            ("step under Airflow over the bare function", 2),
            ("cached step under Airflow over the bare function", 2),
        ):
            run = api.trigger("fraud__bench", {"salt": salt})
            for _ in api.watch([run], every=0.2):
                pass
            if name != "warm-up":
                yield _line(name, run.seconds / STEPS, bare)
    finally:
        platform.down()

"""`kill -9` of the step, the task or the scheduler in the middle of a run: the run succeeds without duplicates."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from kommuna.clients.airflow import AirflowApi
from kommuna.errors import Outage
from kommuna.store import Store
from kommuna.waiting import wait_until

if TYPE_CHECKING:
    from tests.integration.platform.conftest import Site

STEPS = """
import os, time
from pathlib import Path
import polars as pl

def slow(*, flag: str, seconds: float = 8.0) -> pl.LazyFrame:
    Path(flag).write_text(str(os.getpid()))
    time.sleep(seconds)
    return pl.LazyFrame({"id": range(1000), "of": flag})

def after(table: pl.LazyFrame) -> pl.LazyFrame:
    return table.with_columns(two=pl.col("id") * 2)
"""

DAG = """
from airflow.sdk import Param
from kommuna.airflow import StepOperator, TeamDag

with TeamDag("slow", params={"flag": Param("", type="string")}):
    slow = StepOperator(task_id="slow", function="slow_steps:slow", parameters={"flag": "{{ params.flag }}"})
    StepOperator(task_id="after", function="slow_steps:after", inputs={"table": slow})
"""


@pytest.fixture(scope="module")
def api(site: Site) -> AirflowApi:
    (site.root / "dags/fraud/slow_steps.py").write_text(STEPS)
    (site.root / "dags/fraud/slow.py").write_text(DAG)
    api = site.api()
    api.wait_for_dags(["fraud__slow"])
    return api


def step_process(flag: Path) -> psutil.Process:
    return psutil.Process(
        int(wait_until("the step started", lambda: flag.exists() and flag.read_text(), seconds=60, every=0.05))
    )


def of_step(process: psutil.Process, _site: Site) -> int:
    return process.pid


def of_task(process: psutil.Process, _site: Site) -> int:
    runtime = process.parent()
    assert runtime is not None
    assert "kommuna.runtime" in runtime.cmdline()
    task = runtime.parent()
    assert task is not None
    return task.pid


def of_scheduler(_process: psutil.Process, site: Site) -> int:
    return next(process.pid for process in site.embedded.status() if process.name == "scheduler")


@pytest.mark.parametrize("victim", [of_step, of_task, of_scheduler])
def test_a_killed_process_costs_only_a_retry(
    site: Site, api: AirflowApi, tmp_path: Path, victim: Callable[[psutil.Process, Site], int]
) -> None:
    flag = tmp_path / "flag"
    run = api.trigger("fraud__slow", {"flag": str(flag)})
    process = step_process(flag)
    pid = victim(process, site)
    flag.write_text("")
    os.kill(pid, signal.SIGKILL)

    def ended() -> bool:
        with contextlib.suppress(Outage):
            api.refresh(run)
        return run.ended

    wait_until("the run ended", ended, seconds=240, every=1)
    assert run.state == "success", (run.tasks, api.log(run, "slow"))
    assert not process.is_running()
    store = Store(site.embedded.installation.store(), "fraud")
    mine = [manifest for manifest in store.manifests() if manifest.params.get("flag") == str(flag)]
    assert len(mine) == 1
    after = [m for m in store.manifests() if any(line.manifest == mine[0].key for line in m.lineage)]
    assert len(after) == 1
    root = site.root / ".kommuna/store/fraud"
    referred = {artifact.filename for manifest in store.manifests() for artifact in manifest.artifacts}
    assert {path.name for path in (root / "artifacts").rglob("*") if path.is_file()} == referred
    assert len([path for path in (root / "manifests").rglob("*") if path.is_file()]) == len(list(store.manifests()))
    assert not list((root / "tmp").iterdir())

"""A data set that one team publishes starts only the DAG of the team that it is published to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.rigs.dag_runs import DagRuns

from kommuna.errors import PlatformFault
from kommuna.waiting import wait_until

if TYPE_CHECKING:
    from tests.integration.platform.conftest import Site

PRODUCER = """
from airflow.sdk import Asset, AssetAccessControl, asset, dag, task

published = Asset("published", access_control=AssetAccessControl(consumer_teams=["fraud"]))
kept = Asset("kept")

@dag
def publishing():
    @task(outlets=[published, kept])
    def publish():
        return 1
    publish()
publishing()

@asset(schedule=published)
def derived():
    return 2
"""
CONSUMER = """
from airflow.sdk import Asset, dag, task

for name in ("published", "kept"):
    @dag(dag_id=f"follows_{name}", schedule=Asset.ref(name=f"support__{name}"))
    def follows():
        @task
        def follow():
            return 1
        follow()
    follows()
"""


@pytest.fixture(scope="module")
def runs(site: Site) -> DagRuns:
    made = DagRuns(site)
    made.write("publishing.py", PRODUCER)
    DagRuns(site, "fraud").write("following.py", CONSUMER)
    wanted = {"support__publishing", "support__derived", "fraud__follows_published", "fraud__follows_kept"}
    assert made.await_dags(wanted) == wanted, made.import_errors()
    return made


def run_of(runs: DagRuns, dag_id: str, seconds: float) -> str | None:
    """Waits for the first run of a DAG."""
    try:
        found = wait_until(
            "there is a run", lambda: runs.pages(f"/dags/{dag_id}/dagRuns", "dag_runs"), seconds=seconds, every=1
        )
    except PlatformFault:
        return None
    return str(found[0]["dag_run_id"])


def test_only_a_published_asset_starts_the_consumers_dag(runs: DagRuns) -> None:
    states = runs.wait("support__publishing", runs.trigger("support__publishing"))
    assert states[""] == "success"
    for dag_id in ("support__derived", "fraud__follows_published"):
        started = run_of(runs, dag_id, 60)
        assert started is not None, dag_id
        assert runs.wait(dag_id, started)[""] == "success"
    assert run_of(runs, "fraud__follows_kept", 5) is None


@pytest.mark.parametrize("team", ["support", "fraud"])
def test_check_finds_nothing_in_either_bundle(site: Site, runs: DagRuns, team: str) -> None:
    done = site.kommuna("check", f"dags/{team}")
    assert done.returncode == 0, done.stdout + done.stderr

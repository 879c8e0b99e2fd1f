"""Both example teams' DAGs, unchanged: Git → parser → DAG processor → scheduler → worker pod → S3 → MLflow."""

from __future__ import annotations

import re
from typing import Any

import pytest
import requests
from tests.e2e.conftest import JOBS
from tests.e2e.installation import CONTROL, Airflow, Installation, Run


@pytest.fixture(scope="module")
def runs(jobs: dict[str, Run]) -> dict[str, Run]:
    for found in jobs.values():
        found.succeed(seconds=1800)
    return jobs


@pytest.mark.parametrize("team", JOBS)
def test_the_run_succeeds_with_every_task(runs: dict[str, Run], team: str) -> None:
    assert set(runs[team].states().values()) <= {"success", "skipped"}
    assert runs[team].states()["predict"] == "success"


@pytest.mark.parametrize("team", JOBS)
def test_tasks_used_the_teams_pool_and_executor(runs: dict[str, Run], team: str) -> None:
    for task in runs[team].tasks().values():
        assert task["pool"] == f"{team}__default"


@pytest.mark.parametrize("team", JOBS)
def test_steps_ran_in_the_teams_namespace_under_its_account(
    installation: Installation, airflow: Airflow, team: str
) -> None:
    run = airflow.trigger(f"{team}__platform_check")
    seen = []
    while run.state not in ("success", "failed"):
        seen += installation.workers(team)
    run.succeed()
    mine = [pod for pod in seen if pod["metadata"]["annotations"].get("run_id") == run.run_id]
    assert mine
    for pod in mine:
        assert pod["metadata"]["namespace"] == f"{CONTROL}-{team}"
        assert pod["spec"]["serviceAccountName"] == "worker"
        assert pod["spec"]["automountServiceAccountToken"] is False
        resources = pod["spec"]["containers"][0]["resources"]
        assert resources["limits"] == resources["requests"] == {
            "cpu": "250m", "memory": "768Mi", "ephemeral-storage": "4Gi",
        }  # fmt: skip


@pytest.mark.parametrize("team", JOBS)
def test_artifacts_are_under_the_teams_prefix(installation: Installation, runs: dict[str, Run], team: str) -> None:
    import s3fs

    files = s3fs.S3FileSystem(endpoint_url=installation.store_url, key="reader", secret="reader-secret")
    key = runs[team].result("predict")["key"]
    assert files.exists(f"kommuna/teams/{team}/manifests/{key[:2]}/{key}.json")
    for name in runs[team].result("predict")["outputs"].values():
        assert files.exists(f"kommuna/teams/{team}/artifacts/{name[:2]}/{name}")


def registered(installation: Installation, workspace: str, login: tuple[str, str]) -> requests.Response:
    return requests.get(
        f"{installation.mlflow_url}/api/2.0/mlflow/model-versions/search",
        headers={"X-MLFLOW-WORKSPACE": workspace}, auth=login, timeout=30,
    )  # fmt: skip


@pytest.mark.parametrize(("team", "model"), [("support", "support__topics"), ("fraud", "fraud__cards")])
def test_a_version_is_registered_in_the_teams_workspace_and_no_other_team_sees_it(
    installation: Installation, runs: dict[str, Run], team: str, model: str
) -> None:
    login = (team, installation.cluster.secret("kommuna-keys", f"mlflow-{team}"))
    versions: list[dict[str, Any]] = registered(installation, team, login).json()["model_versions"]
    assert model in {version["name"] for version in versions}
    other = next(name for name in JOBS if name != team)
    theirs = (other, installation.cluster.secret("kommuna-keys", f"mlflow-{other}"))
    refused = registered(installation, team, theirs)
    assert refused.status_code == 403 or refused.json().get("model_versions", []) == []


@pytest.mark.parametrize("team", JOBS)
def test_logs_are_read_from_the_store_after_the_pod_is_gone(
    installation: Installation, runs: dict[str, Run], team: str
) -> None:
    left = {pod["metadata"]["annotations"].get("run_id") for pod in installation.workers(team)}
    assert runs[team].run_id not in left
    log = runs[team].log("predict", "step.done")
    assert f"s3://kommuna/teams/{team}/logs/" in log
    assert "step.done" in log
    assert not re.search(r"step\.(not_kept_for_others|call_)", log)  # what a step used is seen in pods too


def test_people_only_see_and_start_their_own_teams_dags(installation: Installation, runs: dict[str, Run]) -> None:
    sue = installation.airflow("sue")
    dags = sue.dags()
    assert "support__topics" in dags
    assert not [dag for dag in dags if not dag.startswith("support__")]
    assert sue.call("POST", "/dags/fraud__platform_check/dagRuns", json={"logical_date": None}).status_code == 404

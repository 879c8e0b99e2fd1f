"""The release: `helm test`, upgrades without and with changes, and upgrades that fail."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from tests.e2e.installation import CONTROL, Airflow, Installation


def pods(installation: Installation) -> dict[str, tuple[str, int]]:
    """Returns the start and restarts of each pod of the platform, except workers and jobs."""
    found = {}
    for namespace in (CONTROL, *(installation.namespace(team) for team in installation.values["teams"])):
        for pod in installation.cluster.items("pods", namespace):
            owner = (pod["metadata"].get("ownerReferences") or [{}])[0].get("kind", "")
            if owner in ("ReplicaSet", "StatefulSet"):
                restarts = sum(status["restartCount"] for status in pod["status"]["containerStatuses"])
                found[f"{namespace}/{pod['metadata']['name']}"] = (pod["status"]["startTime"], restarts)
    return found


def test_helm_test_runs_a_step_of_each_team(installation: Installation) -> None:
    done = installation.cluster.helm("test", CONTROL, "--namespace", CONTROL, "--logs", "--timeout", "15m")
    assert done.returncode == 0, done.stdout + done.stderr
    for team in installation.values["teams"]:
        assert f"{team}__platform_check" in done.stdout


def test_an_upgrade_without_changes_restarts_nothing(installation: Installation) -> None:
    before, secrets = pods(installation), installation.secrets()
    done = installation.upgrade(installation.values)
    assert done.returncode == 0, done.stderr
    assert pods(installation) == before
    assert installation.secrets() == secrets


def test_the_release_has_no_clusterrole(installation: Installation) -> None:
    manifest = installation.cluster.helm("get", "manifest", CONTROL, "--namespace", CONTROL).stdout
    assert "kind: Role\n" in manifest
    assert "ClusterRole" not in manifest


BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a missing secret": ({"store_secret": "nowhere"}, ["teams.support.store_secret", "nowhere", "create it first"]),
    "a quota below a task's needs": ({"quota": {"memory": "64Mi"}}, ["teams.support.quota.memory"]),
    "a namespace that is taken": ({"namespace": "kommuna-fraud"}, ["namespace", "kommuna-fraud"]),
    "an unknown key": ({"quotas": {}}, ["quotas"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_upgrade_is_refused_and_the_old_release_keeps_working(
    installation: Installation, airflow: Airflow, case: str
) -> None:
    change, words = BAD[case]
    before = pods(installation)
    bad = copy.deepcopy(installation.values)
    bad["teams"]["support"] |= change
    done = installation.upgrade(bad)
    assert done.returncode != 0
    for word in words:
        assert word in done.stdout + done.stderr, done.stdout + done.stderr
    assert pods(installation) == before
    assert "support__topics" in airflow.dags()


def test_the_old_release_keeps_working_if_an_upgrade_cannot_prepare_the_database(
    installation: Installation, airflow: Airflow
) -> None:
    before = pods(installation)
    bad = copy.deepcopy(installation.values)
    bad["images"] = bad["images"] | {"steps": "localhost/kommuna/steps:that-does-not-exist"}
    done = installation.upgrade(bad, "--timeout", "30s")
    assert done.returncode != 0
    assert "kommuna-prepare" in done.stderr  # of the hooks, it alone has this image
    assert pods(installation) == before
    airflow.trigger("support__platform_check").succeed()
    assert installation.upgrade(installation.values).returncode == 0

"""A team's namespace and Secrets: what each team gets, what is kept after it is removed, and those of older charts."""

from __future__ import annotations

import base64
import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import yaml
from tests.e2e.conftest import LOGIN, ready
from tests.e2e.installation import CHART, CONTROL, Airflow, Installation, wait_until


def test_the_registrys_secret_is_in_every_teams_namespace_and_its_pods_name_it(installation: Installation) -> None:
    given = installation.cluster.get("secret", LOGIN, CONTROL)
    for team in installation.values["teams"]:
        copied = installation.cluster.get("secret", LOGIN, installation.namespace(team))
        assert (copied["type"], copied["data"]) == (given["type"], given["data"])
        (parser, *_) = installation.cluster.items(
            "pods", installation.namespace(team), "-l", "app.kubernetes.io/component=parser"
        )
        assert parser["spec"]["imagePullSecrets"] == [{"name": LOGIN}]


def test_a_teams_pods_may_not_create_or_read_secrets(installation: Installation) -> None:
    for account in ("worker", "default"):
        user = f"system:serviceaccount:kommuna-support:{account}"
        command = ["auth", "can-i", "get", "secrets", "-n", "kommuna-support", "--as", user]
        assert installation.cluster.kubectl(*command, check=False).strip() == "no"
    maker = f"system:serviceaccount:{CONTROL}:kommuna-credentials-teams"

    def may(verb: str, name: str, namespace: str) -> bool:
        command = ["auth", "can-i", verb, f"secrets/{name}", "-n", namespace, "--as", maker]
        return installation.cluster.kubectl(*command, check=False).strip() == "yes"

    assert may("update", "worker", "kommuna-support")
    assert may("get", "kommuna-keys", CONTROL)
    assert not may("get", "kommuna-database", CONTROL)
    assert not may("update", "kommuna-keys", CONTROL)
    assert not may("get", "anything", "kommuna-support")
    assert not may("get", "worker", "fixtures")


@pytest.fixture
def restored(installation: Installation, request: pytest.FixtureRequest) -> Iterator[None]:
    """Restores the release for the next tests, even if a test fails halfway."""
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed > failed:
        installation.upgrade(installation.values)


def disown(installation: Installation, secrets: list[str]) -> None:
    """Makes Secrets look as if Helm had created them and might remove them."""
    for place in secrets:
        namespace, name = place.split("/")
        secret = ["-n", namespace, "annotate", "--overwrite", "secret", name]
        owner = [f"meta.helm.sh/release-name={CONTROL}", f"meta.helm.sh/release-namespace={CONTROL}"]
        installation.cluster.kubectl(*secret, *owner, "helm.sh/resource-policy-")
        label = ["-n", namespace, "label", "--overwrite", "secret", name, "app.kubernetes.io/managed-by=Helm"]
        installation.cluster.kubectl(*label)


def test_secrets_of_an_older_chart_keep_their_values(
    installation: Installation, airflow: Airflow, restored: None, tmp_path: Path
) -> None:
    """An older chart had the Secrets in its templates: without them, Helm would remove the Secrets."""
    before = installation.secrets()
    older = tmp_path / "kommuna"
    shutil.copytree(CHART, older)
    documents = [
        {
            "apiVersion": "v1", "kind": "Secret", "data": data,
            "metadata": {
                "namespace": place.split("/")[0], "name": place.split("/")[1],
                "labels": {"app.kubernetes.io/managed-by": "Helm"},
            },
        }
        for place, data in before.items()
    ]  # fmt: skip
    (older / "templates" / "older.yaml").write_text(yaml.safe_dump_all(documents))
    (older / "templates" / "team" / "credentials.yaml").unlink()
    disown(installation, list(before))
    done = installation.upgrade(installation.values, "--no-hooks", chart=older)
    assert done.returncode == 0, done.stderr
    manifest = installation.cluster.helm("get", "manifest", CONTROL, "--namespace", CONTROL).stdout
    assert manifest.count("kind: Secret\n") == len(before)
    done = installation.upgrade(installation.values)
    assert done.returncode == 0, done.stderr
    wait_for_credentials(installation)
    after = installation.secrets()
    kept = {place: data for place, data in after.items() if not place.endswith("/parser")}
    assert kept == {place: before[place] for place in kept}
    for place in before.keys() - kept.keys():  # its certificate may be new, of the same authority
        assert after[place]["token-sha256"] == before[place]["token-sha256"]
    airflow.trigger("support__platform_check").succeed()


def people(secrets: dict[str, dict[str, str]]) -> dict[str, str]:
    """Returns the passwords by login."""
    found: dict[str, str] = json.loads(base64.b64decode(secrets[f"{CONTROL}/kommuna-passwords"]["passwords.json"]))
    return found


def wait_for_credentials(installation: Installation) -> None:
    """Waits until the job that fills the teams' namespaces has finished for this revision."""

    def done() -> bool:
        jobs = installation.cluster.items("jobs", CONTROL, "-l", "app.kubernetes.io/component=credentials")
        return bool(jobs) and all(job["status"].get("succeeded") for job in jobs)

    wait_until("the teams' Secrets are made", done, seconds=180)


def test_a_removed_team_keeps_its_namespace_and_gets_it_back(installation: Installation, restored: None) -> None:
    """A removed team loses its namespace if its entry has `keep_namespace: false`."""
    cluster = installation.cluster
    before, namespace = installation.secrets(), installation.namespace("bench")
    uid = cluster.get("namespace", namespace, namespace)["metadata"]["uid"]
    own = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own", "namespace": namespace}}
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(own))

    without = copy.deepcopy(installation.values)
    del without["teams"]["bench"]
    without["teams"]["brief"] = {"bundle": "dags/brief", "keep_namespace": False, "pools": {"default": 1}}
    done = installation.upgrade(without)
    assert done.returncode == 0, done.stderr
    assert cluster.get("namespace", namespace, namespace)["metadata"]["uid"] == uid
    cluster.get("configmap", "own", namespace)
    assert cluster.get("secret", "worker", namespace)["data"] == before[f"{namespace}/worker"]
    wait_until("its parser is gone", lambda: not cluster.items("deployments", namespace), seconds=120)
    assert [policy["metadata"]["name"] for policy in cluster.items("networkpolicies", namespace)] == ["default-deny"]
    assert cluster.get("namespace", "kommuna-brief", "kommuna-brief")["status"]["phase"] == "Active"

    done = installation.upgrade(installation.values)
    assert done.returncode == 0, done.stderr
    ready(installation)
    assert cluster.get("namespace", namespace, namespace)["metadata"]["uid"] == uid
    wait_for_credentials(installation)
    after = installation.secrets()
    mine = [f"{namespace}/worker", f"{namespace}/parser", f"{CONTROL}/kommuna-parser-bench"]
    assert {place: after[place] for place in mine} == {place: before[place] for place in mine}
    assert people(before).items() <= people(after).items()
    installation.airflow().trigger("bench__platform_check").succeed()
    gone = ["get", "namespace", "kommuna-brief", "--ignore-not-found", "-o", "name"]
    wait_until("the namespace of the other is gone", lambda: not cluster.kubectl(*gone).strip(), seconds=120)


def test_passwords_still_work(installation: Installation) -> None:
    """The Secrets are those that the servers use: the admin's, and a team's in MLflow."""
    assert installation.airflow("admin").get("/dags", limit=1)["total_entries"] > 0
    password = base64.b64decode(installation.secrets()["kommuna-support/worker"]["MLFLOW_TRACKING_PASSWORD"]).decode()
    mlflow = installation.cluster.forwarded("kommuna-mlflow", CONTROL, 5000)  # its pod is a new one since
    answer = requests.get(
        f"http://{mlflow}/api/2.0/mlflow/experiments/search?max_results=1",
        auth=("support", password), headers={"X-MLFLOW-WORKSPACE": "support"}, timeout=30,
    )  # fmt: skip
    assert answer.status_code == 200, answer.text

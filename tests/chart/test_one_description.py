"""A team, the restricted pod and Airflow's settings are only described in Python, and the chart agrees."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.chart.conftest import CHART, Refused, one, team, values

from kommuna.airflow.operators.image import pod_of
from kommuna.airflow_settings import SHARED, WAITING, executors, team_settings, users, variables
from kommuna.cluster.chart import EXECUTOR, generated
from kommuna.embedded.settings import airflow_settings
from kommuna.spec.installation import Installation
from kommuna.spec.pod import TASK
from kommuna.spec.resources import Resources, cpu_cores, memory_bytes
from kommuna.spec.team import Platform, Team

Render = Callable[..., list[dict[str, Any]]]
GENERATED = CHART / "templates" / "_generated.tpl"
SECRETS = {"jwt": "j", "fernet": "f", "api": "a"}


def platform_of(objects: list[dict[str, Any]]) -> Platform:
    """Returns the platform's description that the control plane gets."""
    return Platform.read(
        yaml.safe_load(one(objects, "ConfigMap", "kommuna-platform")["data"]["kommuna.yaml"]), where="chart"
    )


def settings_of(objects: list[dict[str, Any]]) -> dict[str, str]:
    return one(objects, "ConfigMap", "kommuna-airflow")["data"]


def worker(objects: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return yaml.safe_load(one(objects, "ConfigMap", "kommuna-pods")["data"][f"{name}.yaml"])["spec"]


@pytest.fixture(scope="module")
def objects(render: Render) -> list[dict[str, Any]]:
    teams = {
        "team00": team(0),
        "team01": team(1, parallelism=7, namespace="ml", people={"ann": "op", "bob": "viewer"}, own_images=True),
        "team02": team(2, people={"ann": "op"}, quota={"memory": "32Gi"}, keep_namespace=False),
    }
    return render(values(0) | {"teams": teams})


def test_the_committed_templates_match_the_models() -> None:
    assert GENERATED.read_text() == generated(), "make them anew: make chart"


def test_a_team_gets_its_settings_and_the_models_defaults_for_the_rest(objects: list[dict[str, Any]]) -> None:
    for name, described in platform_of(objects).teams.items():
        namespace = described.namespace or f"kommuna-{name}"
        hard = one(objects, "ResourceQuota", "tasks", namespace)["spec"]["hard"]
        quota = described.quota
        assert (hard["limits.cpu"], hard["limits.memory"], hard["pods"]) == (quota.cpu, quota.memory, str(quota.pods))
        (limits,) = one(objects, "LimitRange", "team", namespace)["spec"]["limits"]
        assert limits["max"] == {"cpu": quota.cpu, "memory": quota.memory, "ephemeral-storage": quota.disk}
        assert limits["default"] == limits["defaultRequest"] == TASK
        kept = one(objects, "Namespace", namespace)["metadata"].get("annotations", {})
        assert ("helm.sh/resource-policy" in kept) is described.keep_namespace
        assert worker(objects, name)["automountServiceAccountToken"] is described.own_images


def test_airflows_settings_come_from_the_same_functions(objects: list[dict[str, Any]]) -> None:
    platform, settings = platform_of(objects), settings_of(objects)
    url = "http://kommuna-api-server.kommuna.svc:8080/execution/"
    expected = variables(SHARED)
    for name, described in platform.teams.items():
        namespace = described.namespace or f"kommuna-{name}"
        executor = {
            key: value.replace('{{ include "kommuna.namespace" . }}', namespace).replace("{{ .team }}", name)
            for key, value in EXECUTOR.items()
        }
        own = team_settings(name.upper(), parallelism=described.parallelism, execution_api=url, executor=executor)
        assert {key: value for key, value in settings.items() if key.startswith(f"AIRFLOW__{name.upper()}___")} == own
        expected |= own
    assert expected.items() <= settings.items()
    assert settings["AIRFLOW__CORE__EXECUTOR"] == executors(platform.teams, "kommuna.airflow.executor.TeamExecutor")
    assert settings["AIRFLOW__CORE__PARALLELISM"] == str(1 + sum(t.parallelism for t in platform.teams.values()))
    found = settings["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"].split(",")
    assert sorted(found) == sorted(users(platform).split(","))


def test_the_embedded_platform_and_the_cluster_agree(objects: list[dict[str, Any]]) -> None:
    platform = platform_of(objects)
    embedded, cluster = airflow_settings(Installation(platform, Path("/site")), SECRETS), settings_of(objects)
    for name in variables(SHARED):
        assert embedded[name] == cluster[name]
    users_variable = "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"
    assert sorted(embedded[users_variable].split(",")) == sorted(cluster[users_variable].split(","))
    own = {(item["name"], item.get("value")) for item in worker(objects, "team00")["containers"][0]["env"]}
    assert variables(WAITING).items() <= embedded.items()
    assert set(variables(WAITING).items()) <= own


def test_a_worker_and_a_step_in_its_own_image_have_the_same_restricted_pod(objects: list[dict[str, Any]]) -> None:
    mine, other = worker(objects, "team00"), pod_of("team00", Resources())["spec"]
    for key in ("enableServiceLinks", "restartPolicy", "automountServiceAccountToken", "serviceAccountName"):
        assert mine[key] == other[key], key
    assert other["securityContext"].items() <= mine["securityContext"].items()
    (container,), (step,) = mine["containers"], other["containers"]
    for key in ("securityContext", "envFrom", "name"):
        assert container[key] == step[key], key
    assert [m for m in step["volumeMounts"] if m not in container["volumeMounts"]] == []
    assert [v for v in other["volumes"] if v not in mine["volumes"]] == []


def test_a_default_is_changed_only_in_the_model(helm: str, tmp_path: Path) -> None:
    chart = shutil.copytree(CHART, tmp_path / "kommuna")
    text = GENERATED.read_text()
    for old, new in (('"parallelism": 4', '"parallelism": 9'), ('"16Gi"', '"5Gi"'), ('"cpu": "8"', '"cpu": "3"')):
        assert text.count(old) == 1
        text = text.replace(old, new)
    (chart / "templates" / "_generated.tpl").write_text(text)
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values(1)))
    command = [helm, "template", "kommuna", chart, "--namespace", "kommuna", "--values", tmp_path / "values.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = [document for document in yaml.safe_load_all(done.stdout) if document]
    hard = one(found, "ResourceQuota", "tasks", "kommuna-team00")["spec"]["hard"]
    assert (hard["requests.cpu"], hard["requests.memory"]) == ("3", "5Gi")
    settings = settings_of(found)
    assert settings["AIRFLOW__TEAM00___CORE__PARALLELISM"] == "9"
    assert settings["AIRFLOW__CORE__PARALLELISM"] == "10"


def test_no_template_contains_a_default_of_a_team() -> None:
    names = "|".join([*Team.model_fields, "cpu", "memory", "pods"])
    for path in (CHART / "templates").rglob("*"):
        if path.is_file() and path != GENERATED:
            found = re.findall(rf"(?:spec|quota)\.(?:{names}) \| default (?:\d+|\"\w+\")", path.read_text())
            assert not found, (path, found)
            assert "16Gi" not in path.read_text(), path


@pytest.mark.parametrize(
    "memory", ["1023Mi", "1Gi", "1073741823", "1073741824", "1.1G", "0.99Gi", "1048576Ki", "1T", "900M"]
)
def test_memory_is_parsed_as_by_the_model(render: Render, memory: str) -> None:
    given = values(1) | {"teams": {"team00": team(0, quota={"memory": memory})}}
    if memory_bytes(memory) < memory_bytes(TASK["memory"]):
        with pytest.raises(Refused, match=r"quota\.memory"):
            render(given)
    else:
        render(given)


@pytest.mark.parametrize("cpu", ["999m", "1000m", "1", "0.9", "1.5", "2500m"])
def test_cores_are_parsed_as_by_the_model(render: Render, cpu: str) -> None:
    given = values(1) | {"teams": {"team00": team(0, quota={"cpu": cpu})}}
    if cpu_cores(cpu) < cpu_cores(TASK["cpu"]):
        with pytest.raises(Refused, match=r"quota\.cpu"):
            render(given)
    else:
        render(given)

"""The chart neither contains nor generates secrets: a job creates them, with no more rights than it needs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from tests.chart.conftest import CHART, one, pods, values

Render = Callable[..., list[dict[str, Any]]]
PRIVATE: dict[str, Any] = {
    "images": {"pull_secrets": ["registry-login"]},
    "store_secret": "store-platform",
    "mlflow": {"secret": "store-mlflow"},
}


def private(teams: int) -> dict[str, Any]:
    """Values with a Secret of every kind that values may name."""
    given = values(teams, **PRIVATE)
    for number in range(teams):
        given["teams"][f"team{number:02}"]["repository"] = {
            "url": "https://git.example/x.git",
            "secret": f"git-{number}",
        }
        given["teams"][f"team{number:02}"]["registry_secret"] = f"models-{number}"
    return given


def test_two_renders_of_the_same_values_are_equal(helm: str, tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(private(3)))

    def rendered(*options: str) -> bytes:
        command = [helm, "template", "kommuna", CHART, "--namespace", "kommuna", "--values", file, *options]
        return subprocess.run(command, capture_output=True, check=True).stdout

    assert rendered() == rendered()
    assert rendered("--is-upgrade") == rendered("--is-upgrade")
    assert b"kind: Secret" not in rendered()


def test_no_template_generates_random_values_or_queries_the_cluster() -> None:
    words = (
        "rand",
        "genCA",
        "genSigned",
        "genSelfSigned",
        "genPrivateKey",
        "lookup",
        "uuidv4",
        "now ",
        "derivePassword",
    )
    for file in (CHART / "templates").rglob("*.*"):
        text = file.read_text()
        assert not [word for word in words if f"({word}" in text or f"{{{{ {word}" in text or f":= {word}" in text], (
            file
        )


def job_settings(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the settings of the jobs that create Secrets."""
    return [
        json.loads(entry["value"])
        for _, spec in pods(objects)
        for container in spec["containers"]
        for entry in container.get("env", [])
        if entry["name"] == "KOMMUNA_SECRETS"
    ]


def test_the_jobs_get_the_settings_that_their_model_reads(render: Render) -> None:
    from kommuna.cluster.credentials import Wanted

    first, second = job_settings(render(private(2)))
    assert first == second
    wanted = Wanted.read(first)
    assert wanted.logins == ("admin", "team00", "team01")
    assert wanted.database_server == "kommuna-postgresql.kommuna.svc:5432"
    assert wanted.teams["team01"].model_dump() == {
        "namespace": "kommuna-team01", "store_secret": "store-1", "registry_secret": "models-1", "repository_secret": "git-1",
        "llm": {},
    }  # fmt: skip
    assert {name for _, name, _ in wanted.named() if name} == {
        "store-platform", "store-mlflow", "registry-login", "store-0", "models-0", "git-0", "store-1", "models-1", "git-1",
    }  # fmt: skip
    external = values(1, database_secret="bank", postgresql={"enabled": False}, passwords_secret="people")
    assert Wanted.read(job_settings(render(external))[0]).database_server == ""


def reachable(objects: list[dict[str, Any]], account: str) -> dict[tuple[str | None, str], set[str]]:
    """Returns the Secrets that a service account may access, by namespace and name, with verbs; "" means any name."""
    found: dict[tuple[str | None, str], set[str]] = {}
    for binding in objects:
        if binding["kind"] == "RoleBinding" and binding["subjects"][0]["name"] == account:
            namespace = binding["metadata"].get("namespace")
            for rule in one(objects, "Role", binding["roleRef"]["name"], namespace)["rules"]:
                assert rule["resources"] == ["secrets"]
                for name in rule.get("resourceNames", [""]):
                    found.setdefault((namespace, name), set()).update(rule["verbs"])
    return found


def test_the_platforms_job_may_access_the_releases_secrets_and_those_named_in_the_values(render: Render) -> None:
    found = reachable(render(private(2)), "kommuna-credentials-platform")
    made = [
        f"kommuna-{n}" for n in ("keys", "passwords", "database", "parser-authority", "parser-team00", "parser-team01")
    ]
    named = ["store-platform", "store-mlflow", "registry-login"]
    named += [f"{kind}-{number}" for kind in ("store", "models", "git") for number in range(2)]
    assert found == {
        (None, ""): {"create"}, **{(None, name): {"get", "update"} for name in made},
        **{(None, name): {"get"} for name in named},
    }  # fmt: skip


def test_the_teams_job_only_writes_to_the_teams_namespaces_and_never_reads_the_database(render: Render) -> None:
    found = reachable(render(private(2)), "kommuna-credentials-teams")
    read = ["kommuna-keys", "kommuna-parser-authority", "kommuna-parser-team00", "kommuna-parser-team01"]
    named = ["registry-login", "store-0", "store-1"]
    assert found == {
        **{(None, name): {"get"} for name in (*read, *named)},
        **{(f"kommuna-team{n:02}", ""): {"create"} for n in range(2)},
        **{
            (f"kommuna-team{n:02}", name): {"get", "update"}
            for n in range(2) for name in ("parser", "worker", "llm", "registry-login")
        },
    }  # fmt: skip


def test_only_mlflow_gets_the_keys_of_the_teams_models(render: Render) -> None:
    mounted = {
        (owner["metadata"]["name"], mount["mountPath"], volume["secret"]["secretName"])
        for owner, spec in pods(render(private(2)))
        for volume in spec.get("volumes", []) if volume.get("secret", {}).get("secretName", "").startswith("models-")
        for container in spec["containers"] for mount in container["volumeMounts"] if mount["name"] == volume["name"]
    }  # fmt: skip
    assert mounted == {("kommuna-mlflow", f"/etc/mlflow-keys/team{n:02}", f"models-{n}") for n in range(2)}


def test_only_the_database_and_the_job_that_makes_its_roles_get_the_superusers_password(render: Render) -> None:
    for options in ((), ("--is-upgrade",)):
        keys: dict[str, set[str]] = {}
        for owner, spec in pods(render(values(2, triggerer={"replicas": 1}), *options)):
            for volume in spec.get("volumes", []):
                if volume.get("secret", {}).get("secretName") == "kommuna-database":
                    assert [item["key"] for item in volume["secret"]["items"]] == ["password"]
                    keys.setdefault(owner["metadata"]["name"], set()).add("password")
            for container in [*spec["containers"], *spec.get("initContainers", [])]:
                assert "kommuna-database" not in json.dumps(container.get("envFrom", []))
                for entry in container.get("env", []):
                    reference = entry.get("valueFrom", {}).get("secretKeyRef", {})
                    if reference.get("name") == "kommuna-database":
                        keys.setdefault(container["name"], set()).add(reference["key"])
        assert keys.pop("kommuna-postgresql") == {"password"}
        assert keys.pop("roles") == {"password", "airflow", "mlflow"}
        assert keys.pop("wait-for-database") == {"airflow", "mlflow"}
        assert keys.pop("mlflow") == {"mlflow"}
        assert keys.keys() == {"airflow", "api-server", "scheduler", "dag-processor", "triggerer"}
        assert set.union(*keys.values()) == {"airflow"}
    external = render(values(1, database_secret="bank", postgresql={"enabled": False}))
    assert not [1 for _, spec in pods(external) if any(c["name"] == "roles" for c in spec.get("initContainers", []))]


def test_each_secret_of_a_pod_is_created_by_a_job_or_named_in_the_values(render: Render) -> None:
    objects = render(private(2))
    reached = reachable(objects, "kommuna-credentials-platform") | reachable(objects, "kommuna-credentials-teams")
    granted = set()
    for owner, spec in pods(objects):
        namespace = owner["metadata"].get("namespace")
        if owner["kind"] == "ConfigMap":  # the workers' templates
            namespace = f"kommuna-{spec['containers'][0]['env'][1]['value']}"
        names = {item["name"] for item in spec.get("imagePullSecrets", [])}
        names |= {v["secret"]["secretName"] for v in spec.get("volumes", []) if "secret" in v}
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            names |= {
                entry["valueFrom"]["secretKeyRef"]["name"]
                for entry in container.get("env", [])
                if "secretKeyRef" in entry.get("valueFrom", {})
            }
            names |= {source["secretRef"]["name"] for source in container.get("envFrom", []) if "secretRef" in source}
        granted |= {(namespace, name) for name in names}
    assert ("kommuna-team00", "registry-login") in granted
    assert ("kommuna-team01", "worker") in granted
    assert granted <= reached.keys()


def test_a_job_that_does_something_else_has_another_name(render: Render) -> None:
    """Jobs are immutable."""

    def jobs(given: dict[str, Any]) -> dict[str, str]:
        return {
            o["metadata"]["name"]: json.dumps(o["spec"], sort_keys=True)
            for o in render(given)
            if o["kind"] == "Job" and "helm.sh/hook" not in o["metadata"].get("annotations", {})
        }

    before = jobs(private(2))
    other = PRIVATE | {"images": {"airflow": "registry.example/airflow:2", "pull_secrets": []}}
    for given in (private(3), values(2, **other)):
        after = jobs(given)
        assert len(before) == len(after) == 2
        assert not before.keys() & after.keys()

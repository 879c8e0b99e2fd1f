"""Renders the chart with the test cluster's Helm, and returns its objects."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "kommuna"
NETWORK = {
    name: {"to": [{"ipBlock": {"cidr": f"192.0.2.{number}/32"}}], "ports": [{"protocol": "TCP", "port": 443}]}
    for number, name in enumerate(("store", "kubernetes", "database", "keycloak"))
}
KEYCLOAK = {
    "kind": "keycloak", "url": "https://keycloak.example", "realm": "bank", "client": "kommuna", "secret": "sign-in",
    "admin_secret": "realm-admin", "ca_secret": "keycloak-ca",
}  # fmt: skip
SECRETS = {"database_secret": "", "passwords_secret": ""}


def program(name: str) -> str:
    """Returns a program of the test cluster: from the PATH, or built by its script (minutes, once per machine)."""
    found = shutil.which(name)
    if found:
        return found
    done = subprocess.run(
        [ROOT / "tests" / "e2e" / "cluster" / "program", name], capture_output=True, text=True, check=True
    )
    return done.stdout.strip().splitlines()[-1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test that asks for a program waits while it is built."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(2400))


@pytest.fixture(scope="session")
def helm() -> str:
    return program("helm")


class Refused(Exception):
    """Helm refused the values; the message is its error."""


def team(number: int, **options: Any) -> dict[str, Any]:
    return {"bundle": f"dags/team{number:02}", "store_secret": f"store-{number}", **options}


def values(teams: int, **options: Any) -> dict[str, Any]:
    return {
        "repository": {"url": "https://git.example/platform.git"},
        "network": NETWORK,
        "teams": {f"team{number:02}": team(number) for number in range(teams)},
        **options,
    }


@pytest.fixture(scope="session")
def render(helm: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[dict[str, Any]]]:
    """Returns every object of the chart for some values."""

    def rendered(given: dict[str, Any], *arguments: str) -> list[dict[str, Any]]:
        file = tmp_path_factory.mktemp("values") / "values.yaml"
        file.write_text(yaml.safe_dump(given))
        command = [helm, "template", "kommuna", str(CHART), "--namespace", "kommuna", "--values", str(file)]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True)
        if done.returncode:
            raise Refused(done.stderr)
        return [document for document in yaml.safe_load_all(done.stdout) if document]

    return rendered


def one(objects: list[dict[str, Any]], kind: str, name: str, namespace: str | None = None) -> dict[str, Any]:
    """Returns the only object of a kind and name."""
    found = [
        o
        for o in objects
        if o["kind"] == kind and o["metadata"]["name"] == name and o["metadata"].get("namespace") == namespace
    ]
    assert len(found) == 1, f"{len(found)} objects {kind} {namespace}/{name}"
    return found[0]


def pods(objects: list[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Returns every object that creates pods, with the pod's spec, including the workers' templates."""
    found = []
    for o in objects:
        if o["kind"] in ("Deployment", "StatefulSet", "Job"):
            found.append((o, o["spec"]["template"]["spec"]))
        elif o["kind"] == "Pod":
            found.append((o, o["spec"]))
        elif o["kind"] == "ConfigMap" and o["metadata"]["name"] == "kommuna-pods":
            found += [(o, yaml.safe_load(text)["spec"]) for text in (o.get("data") or {}).values()]
    return found

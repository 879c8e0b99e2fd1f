"""The cluster under test: `up` starts it, or uses the running one."""

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.cluster.client import Cluster, environment

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("KUBECONFIG"):
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip("KUBECONFIG names another cluster, which is used instead of this one"))


@pytest.fixture(scope="session")
def state() -> Path:
    return Path(os.environ.get("KOMMUNA_CLUSTER_STATE", "/run/kommuna-e2e"))


@pytest.fixture(scope="session")
def env(state: Path) -> dict[str, str]:
    subprocess.run([HERE / "up"], check=True, timeout=3600)
    return environment(state)


@pytest.fixture
def cluster(env: dict[str, str]) -> Iterator[Cluster]:
    """The cluster, with a namespace for one test."""
    name = f"smoke-{uuid.uuid4().hex[:6]}"
    Cluster(env).kubectl("create", "namespace", name)
    yield Cluster(env, name)
    Cluster(env).kubectl("delete", "namespace", name, "--wait=false")

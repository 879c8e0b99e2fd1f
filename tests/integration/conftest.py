"""One embedded platform for all tests of the running system: real Airflow and MLflow, with its own ports and state."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from kommuna.embedded import Embedded
from kommuna.spec.installation import find_installation
from kommuna.waiting import wait_until


@dataclass(frozen=True)
class Site:
    """A copy of the checkout with its own platform."""

    root: Path
    embedded: Embedded

    def kommuna(self, *arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Runs the `kommuna` command there."""
        command = [str(Path(sys.executable).with_name("kommuna")), *arguments]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "KOMMUNA"))}
        return subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )

    def get(self, path: str, login: str = "admin", **options: object) -> requests.Response:
        """Sends a request to Airflow's server as a user."""
        headers = {"Authorization": f"Bearer {self.embedded.token(login)}"}
        return requests.get(f"{self.embedded.access.airflow}{path}", headers=headers, timeout=30, **options)  # type: ignore[arg-type]


def make_site(folder: Path, root: Path, free_port: Callable[[], int]) -> Site:
    """Copies the files of a platform into a folder, and chooses free ports."""
    shutil.copytree(root / "dags", folder / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    text = (root / "kommuna.yaml").read_text()
    (folder / "kommuna.yaml").write_text(f"{text}\nports: {{airflow: {free_port()}, mlflow: {free_port()}}}\n")
    return Site(folder, Embedded(find_installation(folder)))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups the tests for `--dist loadgroup`: those of the one platform run one by one, the other files beside them."""
    for item in items:
        if isinstance(item, pytest.Function) and item.path.parent == Path(__file__).parent:
            group = "platform" if "site" in item.fixturenames else item.path.stem
            item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, root: Path, free_port: Callable[[], int]) -> Iterator[Site]:
    """The platform, running."""
    made = make_site(tmp_path_factory.mktemp("site"), root, free_port)
    up = made.kommuna("up")
    assert up.returncode == 0, up.stdout + up.stderr
    yield made
    made.kommuna("down")


@pytest.fixture(scope="module")
def s3(free_port: Callable[[], int]) -> Iterator[dict[str, str]]:
    """The client options of a real S3 server with the bucket `artifacts`."""
    import boto3

    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    where = {"endpoint_url": f"http://127.0.0.1:{port}", "region_name": "us-east-1"}
    client = boto3.client("s3", aws_access_key_id="a", aws_secret_access_key="b", **where)

    def made() -> bool:
        with contextlib.suppress(Exception):
            return bool(client.create_bucket(Bucket="artifacts"))
        return False

    wait_until("the S3 server answers", made, every=0.1)
    yield where
    server.terminate()
    server.wait()

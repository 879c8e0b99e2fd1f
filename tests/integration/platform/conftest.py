"""One embedded platform for all tests of the running system: real Airflow and MLflow, with its own ports and state."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from tests.rigs.dag_runs import BusyAirflow

from kommuna.clients.http import Bearer, Server
from kommuna.embedded import Embedded
from kommuna.spec.installation import find_installation

PEOPLE = "    people: {support-viewer: viewer, support-user: user}\n"  # beside the team's own login, an operator


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

    def api(self, login: str = "admin") -> BusyAirflow:
        """Logs a user in to Airflow's REST API."""
        return BusyAirflow(self.embedded.access.airflow, self.embedded.token(login))

    def call(self, method: str, path: str, login: str = "admin", **options: Any) -> requests.Response:
        """Sends a request to any page of Airflow's server as a user."""
        server = Server(self.embedded.access.airflow, auth=Bearer(self.embedded.token(login)))
        return server.request(method, path, **{"timeout": 60, **options})

    def get(self, path: str, login: str = "admin", **options: Any) -> requests.Response:
        """Reads any page of Airflow's server as a user."""
        return self.call("GET", path, login, **options)


def make_site(folder: Path, root: Path, free_port: Callable[[], int]) -> Site:
    """Copies the files of a platform into a folder, and chooses free ports."""
    shutil.copytree(root / "dags", folder / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    text = (
        (root / "kommuna.yaml").read_text().replace("    bundle: dags/support\n", f"    bundle: dags/support\n{PEOPLE}")
    )
    (folder / "kommuna.yaml").write_text(f"{text}\nports: {{airflow: {free_port()}, mlflow: {free_port()}}}\n")
    return Site(folder, Embedded(find_installation(folder)))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, root: Path, free_port: Callable[[], int]) -> Iterator[Site]:
    """The platform, running."""
    made = make_site(tmp_path_factory.mktemp("site"), root, free_port)
    up = made.kommuna("up")
    assert up.returncode == 0, up.stdout + up.stderr
    yield made
    made.kommuna("down")

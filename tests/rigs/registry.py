"""An MLflow server with users, as the chart starts it, and the walk of its routes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from tests.rigs.walk import Job, filled

from kommuna.airflow_settings import REGISTRY, REGISTRY_USERS
from kommuna.clients.mlflow import MlflowApi
from kommuna.cluster.registry import make_user

ADMIN = ("admin", "the-administrators-password")
_ROUTES = """
import json, sys
from mlflow.server import app
from mlflow.server.auth import create_app
from mlflow.server.fastapi_app import create_fastapi_app

def routes(found, before=""):
    for one in found:
        if getattr(one, "methods", None):
            yield before + one.path, sorted(one.methods)
        elif getattr(one, "routes", None):
            yield from routes(one.routes, before + getattr(one, "path", ""))

create_app(app)  # adds its routes
flask = [(str(rule), sorted(rule.methods)) for rule in app.url_map.iter_rules()]
print(json.dumps([*flask, *routes(create_fastapi_app(app).routes)]))
"""
_FILES = ("/static-files", "/build", "/docs", "/openapi", "/redoc")


@dataclass
class Registry:
    """A running server with the workspaces and users of some teams."""

    url: str
    environment: Mapping[str, str]

    def call(self, team: str, method: str, path: str, *, workspace: str = "", **options: Any) -> requests.Response:
        """Sends a request with a team's login, or the administrator's, in the team's workspace or another."""
        login = ADMIN if team == ADMIN[0] else (team, password(team))
        headers = {"X-MLFLOW-WORKSPACE": workspace or team}
        return requests.request(method, self.url + path, auth=login, headers=headers, timeout=60, **options)

    def make(self, team: str, path: str, body: Mapping[str, Any]) -> Any:
        """Creates something in a team's workspace."""
        answer = self.call(team, "POST", path, json=body)
        assert answer.ok, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    def routes(self) -> list[tuple[str, str]]:
        """Returns the server's own routes, each with a method, without those of its pages' files."""
        done = subprocess.run(
            [sys.executable, "-c", _ROUTES], env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found = {(path, method) for path, methods in json.loads(done.stdout.splitlines()[-1]) for method in methods}
        return sorted(one for one in found if one[1] not in ("HEAD", "OPTIONS") and not one[0].startswith(_FILES))


def password(team: str) -> str:
    """Returns the password of a team's login."""
    return f"the-password-of-{team}"


def jobs(routes: Sequence[tuple[str, str]], ids: Mapping[str, Any], workspaces: Sequence[str]) -> Iterator[Job]:
    """Yields requests to the routes, in each workspace; the pages' twins of a route only in the last one.

    Args:
        routes: path and method.
        ids: values by the name of a field; every one is sent, since the server passes over fields that it does not know.
        workspaces: what the requests name as their workspace.
    """
    flat = {key: value for key, value in ids.items() if isinstance(value, str | int) and key not in ("url", "query")}
    for template, method in routes:
        for workspace in workspaces[-1:] if template.startswith("/ajax-api") else workspaces:
            options = {"params": flat} if method in ("GET", "HEAD") else {"json": dict(ids)}
            if "upload-artifact" in template:
                options = {"params": {"run_uuid": ids["run_id"], "path": "b.txt"}, "data": b"changed"}
            elif "mlflow-artifacts/artifacts/" in template and method == "PUT":
                options = {"data": b"changed"}
            yield Job(
                method, template, filled(template, ids), {**options, "headers": {"X-MLFLOW-WORKSPACE": workspace}}
            )


@contextmanager
def registry(
    folder: Path, port: int, teams: Sequence[str], *, artifacts: str = "", environment: Mapping[str, str] | None = None
) -> Iterator[Registry]:
    """Runs a server for as long as the block lasts.

    Args:
        folder: for its database and files.
        port: where it listens.
        teams: each gets a workspace and a user.
        artifacts: where it keeps artifacts; below the folder if empty.
        environment: further variables of its process.
    """
    database, url = f"sqlite:///{folder}/mlflow.db", f"http://127.0.0.1:{port}"
    settings = REGISTRY_USERS.replace("@DATABASE@", f"sqlite:///{folder}/users.db")
    (folder / "auth.ini").write_text(f"{settings}auth_cache_ttl_seconds = 60\n")  # thousands of requests
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AWS_"))}
    own = {
        **kept,
        **REGISTRY,
        "MLFLOW_BACKEND_STORE_URI": database,
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN[0],
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN[1],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "k" * 32,
        **(environment or {}),
    }
    program = [sys.executable, "-m", "mlflow"]
    subprocess.run([*program, "db", "upgrade", database], check=True, env=own, capture_output=True)
    command = [
        *program, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--enable-workspaces",
        "--app-name", "basic-auth", "--serve-artifacts", "--artifacts-destination", artifacts or str(folder / "artifacts"),
    ]  # fmt: skip
    with (folder / "mlflow.log").open("w") as log:
        server = subprocess.Popen(command, env=own, stdout=log, stderr=log)
    try:
        api = MlflowApi(url, login=ADMIN)
        try:
            api.wait(seconds=120)
        except Exception:
            raise AssertionError((folder / "mlflow.log").read_text()[-3000:]) from None
        for team in teams:
            api.make_workspace(team)
            make_user(_client(url), team, password(team))
        yield Registry(url, own)
    finally:
        server.terminate()
        server.wait(30)


def _client(url: str) -> Any:
    from mlflow.server.auth.client import AuthServiceClient

    os.environ.update(MLFLOW_TRACKING_USERNAME=ADMIN[0], MLFLOW_TRACKING_PASSWORD=ADMIN[1])
    return AuthServiceClient(url)

"""Registered models are read with the team's login, if the registry needs one."""

import http.server
import json
import threading
from collections.abc import Iterator
from typing import ClassVar

import pytest

from kommuna.clients.mlflow import MlflowApi
from kommuna.errors import RegistryError, RegistryUnreachable

LOGIN = "Basic c3VwcG9ydDpzZWNyZXQ="  # support:secret


class Server(http.server.BaseHTTPRequestHandler):
    """Answers as MLflow with basic-auth does: 403 for a model that is not there, and for one that is another's."""

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != LOGIN:
            self.answer(401, b"{}")
        elif "/search" in self.path:
            self.answer(200, b'{"registered_models": [{}]}' if "theirs" in self.path else b"{}")
        else:
            self.answer(403, b"{}")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = http.server.HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_missing_model_is_None_even_if_the_registry_answers_forbidden(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "support")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    assert MlflowApi(url, "support").by_alias("support__topics", "champion") is None


def test_an_existing_model_without_read_rights_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "support")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    with pytest.raises(RegistryError, match="403"):
        MlflowApi(url, "support").by_alias("support__theirs", "champion")


def test_without_a_policy_the_error_is_raised(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    with pytest.raises(RegistryError, match="401"):
        MlflowApi(url, "support").by_alias("support__topics", "champion")


class Registry(http.server.BaseHTTPRequestHandler):
    """Two pages of versions, and workspaces."""

    workspaces: ClassVar[list[str]] = ["fraud"]

    def do_GET(self) -> None:
        page = {"page_token=2": {"model_versions": [{"version": "2"}]}}.get(self.path.rpartition("&")[2])
        self.answer(200, page or {"model_versions": [{"version": "1"}], "next_page_token": "2"})

    def do_POST(self) -> None:
        name = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["name"]
        if name == "broken":
            self.answer(503, {"message": "the database is locked"})
        elif name in self.workspaces:
            self.answer(400, {"error_code": "RESOURCE_ALREADY_EXISTS"})
        elif name.isupper():
            self.answer(400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "lower case, please"})
        else:
            self.workspaces.append(name)
            self.answer(200, {})

    def answer(self, status: int, body: object) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[str]:
    server = http.server.HTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_versions_come_page_by_page(registry: str) -> None:
    assert [version["version"] for version in MlflowApi(registry).versions()] == ["1", "2"]


def test_a_workspace_is_created_once_and_a_refusal_is_reported(registry: str) -> None:
    for name in ("support", "support", "fraud"):
        MlflowApi(registry).make_workspace(name)
    assert Registry.workspaces == ["fraud", "support"]
    with pytest.raises(RegistryError, match=r"refuses the workspace 'BIG': 400 lower case, please"):
        MlflowApi(registry).make_workspace("BIG")


def test_a_failing_and_an_unreachable_server_are_outages(registry: str) -> None:
    with pytest.raises(RegistryUnreachable, match="does not answer: 503"):
        MlflowApi(registry).make_workspace("broken")
    with pytest.raises(RegistryUnreachable, match="is unreachable: ConnectionError"):
        MlflowApi("http://127.0.0.1:9").by_alias("m", "champion")
    with pytest.raises(RegistryUnreachable, match="does not answer"):
        MlflowApi("http://127.0.0.1:9").wait(seconds=0)

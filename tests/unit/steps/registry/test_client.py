"""The registry's client: error messages when MLflow is down, refuses, or lacks the team's workspace."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from kommuna.errors import RegistryError
from kommuna.spec.step import Services
from kommuna.steps.registry.client import Registry


@contextmanager
def answering(status: int, body: dict[str, str]) -> Iterator[str]:
    """A server that answers every request in the same way."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_missing_address_is_an_error() -> None:
    with pytest.raises(RegistryError, match="no MLflow server is configured") as error:
        Registry.from_services(Services())
    assert "kommuna.yaml" in error.value.fix


def test_an_unreachable_server_is_reported_soon_with_its_address() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # bound and not listening: a connection is refused
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(RegistryError) as error:
            Registry(url, "support").by_alias("topics", "champion")
    assert error.value.what == f"MLflow at {url} is unreachable: connection refused"
    assert "kommuna status" in error.value.fix
    assert time.monotonic() - started < 60  # MLflow's own settings take minutes; this is no benchmark


def test_a_refusal_is_reported_with_mlflows_message() -> None:
    body = {"error_code": "PERMISSION_DENIED", "message": "Permission denied"}
    with answering(403, body) as url, pytest.raises(RegistryError) as error:
        Registry(url, "support").by_digest("topics", "0" * 64)
    assert error.value.what == f"MLflow at {url} refuses: 403 PERMISSION_DENIED Permission denied"
    assert "rights" in error.value.fix


def test_a_broken_server_is_reported_as_a_refusal() -> None:
    with answering(500, {"error_code": "INTERNAL_ERROR", "message": "disk full"}) as url:
        with pytest.raises(RegistryError, match="refuses") as error:
            Registry(url, "support").by_alias("topics", "champion")
        assert url in error.value.what
        assert "500" in error.value.what


def test_an_answer_that_is_not_mlflows_is_reported() -> None:
    with answering(404, {"hello": "world"}) as url, pytest.raises(RegistryError, match="refuses"):
        Registry(url).by_alias("topics", "champion")


def test_a_missing_workspace_is_reported(mlflow_server: str) -> None:
    with pytest.raises(RegistryError, match="has no workspace 'nobody'") as error:
        Registry(mlflow_server, "nobody").by_alias("topics", "champion")
    assert "the platform creates a team's workspace" in error.value.fix


def test_a_missing_model_or_alias_is_none(mlflow_server: str) -> None:
    assert Registry(mlflow_server, "support").by_alias("no such model", "champion") is None
    assert Registry(mlflow_server, "support").by_digest("no such 'model'", "0" * 64) is None


def test_previous_settings_are_restored(mlflow_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    monkeypatch.setenv("MLFLOW_WORKSPACE", "fraud")
    before = mlflow.get_tracking_uri()
    Registry(mlflow_server, "support").by_alias("topics", "champion")
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "5"
    assert os.environ["MLFLOW_WORKSPACE"] == "fraud"
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ
    assert mlflow.get_tracking_uri() == before

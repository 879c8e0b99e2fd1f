"""A registered model is asked for with the team's login, where the registry wants one."""

import http.server
import threading
from collections.abc import Iterator

import pytest

from kommuna.errors import RegistryError
from kommuna.spec.step import ModelInput, Services, StepSpec, StoreAddress
from kommuna.store.inputs import _registered

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
def spec() -> Iterator[StepSpec]:
    server = http.server.HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    services = Services(mlflow=f"http://127.0.0.1:{server.server_port}", workspace="support")
    yield StepSpec(function="m:f", team="support", store=StoreAddress(url="memory://x"), services=services)
    server.shutdown()


def test_a_model_that_is_not_there_is_none_also_where_the_registry_says_forbidden(
    spec: StepSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "support")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    assert _registered(ModelInput(model="support__topics"), spec) is None


def test_a_model_that_is_there_and_not_to_be_read_is_refused(spec: StepSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "support")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    with pytest.raises(RegistryError, match="403"):
        _registered(ModelInput(model="support__theirs"), spec)


def test_without_it_the_refusal_is_told(spec: StepSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    with pytest.raises(RegistryError, match="401"):
        _registered(ModelInput(model="support__topics"), spec)

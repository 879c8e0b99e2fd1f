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
    def do_GET(self) -> None:
        known = self.headers.get("Authorization") == LOGIN
        body = b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}' if known else b"{}"
        self.send_response(404 if known else 401)
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


def test_the_login_of_mlflows_own_variables_is_sent(spec: StepSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "support")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    assert _registered(ModelInput(model="support__topics"), spec) is None


def test_without_it_the_refusal_is_told(spec: StepSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    with pytest.raises(RegistryError, match="401"):
        _registered(ModelInput(model="support__topics"), spec)

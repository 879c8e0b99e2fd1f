"""Liveness, checked against servers that answer as Airflow and MLflow do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kommuna.embedded.liveness import check_liveness
from kommuna.spec.installation import Installation
from kommuna.spec.team import Platform

NAMES = ["postgres", "api-server", "scheduler", "triggerer", "mlflow", "watch"]
LATE = datetime.now(UTC) - timedelta(seconds=100)
HEALTH: dict[str, Any] = {
    "metadatabase": {"status": "healthy"},
    "scheduler": {"status": "unhealthy", "latest_scheduler_heartbeat": LATE.isoformat()},
    "triggerer": {"status": "healthy", "latest_triggerer_heartbeat": datetime.now(UTC).isoformat()},
    "dag_processor": {"status": None, "latest_dag_processor_heartbeat": None},
}


@pytest.fixture
def airflow() -> Iterator[Callable[[int, dict[str, Any]], int]]:
    servers = []

    def start(status: int, health: dict[str, Any]) -> int:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status if self.path == "/api/v2/monitor/health" else 404)
                self.end_headers()
                self.wfile.write(json.dumps(health).encode())

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server.server_port

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def installation(folder: Path, port: int) -> Installation:
    description = {"teams": {"support": {"bundle": "dags"}}, "ports": {"airflow": port, "mlflow": 9}}
    return Installation(Platform.model_validate(description), folder)


def test_missing_answers_and_old_heartbeats_are_reported(
    tmp_path: Path, airflow: Callable[[int, dict[str, Any]], int]
) -> None:
    found = check_liveness(installation(tmp_path, airflow(200, HEALTH)), [*NAMES, "dag-processor"])
    assert {name: liveness.trouble for name, liveness in found.items()} == {
        "postgres": "does not answer",
        "api-server": "",
        "scheduler": f"no heartbeat for {(datetime.now(UTC) - LATE).total_seconds():.0f} s",
        "triggerer": "",
        "mlflow": "does not answer at http://127.0.0.1:9/health",
        "watch": "",
        "dag-processor": "has sent no heartbeat",
    }
    assert found["scheduler"].heartbeat == LATE.timestamp()


def test_without_airflows_server_heartbeats_are_not_known(tmp_path: Path) -> None:
    found = check_liveness(installation(tmp_path, 9), ["api-server", "scheduler"])
    assert found["api-server"].trouble == "does not answer at http://127.0.0.1:9/api/v2/monitor/health"
    assert not found["scheduler"].known
    assert found["scheduler"].trouble == "unknown: Airflow's server does not answer"


def test_without_its_database_heartbeats_are_not_known(
    tmp_path: Path, airflow: Callable[[int, dict[str, Any]], int]
) -> None:
    health = HEALTH | {"metadatabase": {"status": "unhealthy"}}
    found = check_liveness(installation(tmp_path, airflow(200, health)), ["scheduler"])
    assert found["scheduler"].trouble == "unknown: Airflow's database does not answer"
    assert not found["scheduler"].known


def test_a_failing_server_is_reported_with_its_status(
    tmp_path: Path, airflow: Callable[[int, dict[str, Any]], int]
) -> None:
    found = check_liveness(installation(tmp_path, airflow(503, {})), ["api-server"])
    assert found["api-server"].trouble.startswith("answers 503 at ")

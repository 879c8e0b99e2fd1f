"""`kommuna trigger` against a server that pages, maps and refuses as Airflow's does.

250 DAGs and 150 mapped tasks are more than a test can run. That the real server takes what `trigger` sends, and how a
run, a failure and a refusal are told, is in tests/integration/platform/test_main_job.py.
"""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from rich.console import Console
from typer.testing import CliRunner

from kommuna.cli import platform
from kommuna.cli.demo import report_failures
from kommuna.cli.main import app
from kommuna.clients.airflow import AirflowApi, Run
from kommuna.errors import PlatformFault, SpecError, StepNotFound

DAGS = [f"support__dag_{i:03}" for i in range(250)]


class Airflow(BaseHTTPRequestHandler):
    """250 DAGs; each run has an ordinary task and 150 mapped ones, of which numbers 3 and 120 fail."""

    posted: list[dict[str, Any]]

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        path = url.path.removeprefix("/api/v2")
        if path == "/dags":
            self._page(query, "dags", [{"dag_id": dag} for dag in DAGS])
        elif path.endswith("/details"):
            self._send({"params": {"b": {"value": 1}, "limit": {"value": 2}}})
        elif path.endswith("/taskInstances"):
            mapped = [("t", i, "failed" if i in (3, 120) else "success") for i in range(150)]
            tasks = [("read", -1, "success"), *mapped]
            self._page(
                query,
                "task_instances",
                [{"task_id": name, "map_index": index, "state": state} for name, index, state in tasks],
            )
        elif "/logs/" in path:
            self._send({"content": [{"event": f"no row {query['map_index']}"}]})
        elif path.endswith(("/taskInstances/t/3", "/taskInstances/t/120")):
            self._send({"try_number": 2})
        else:
            self._send({"state": "failed", "duration": 2.0})

    def do_POST(self) -> None:
        if self.path.endswith("dag_249/dagRuns"):
            time.sleep(2)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        taken = any(body["logical_date"] and body["logical_date"] == other["logical_date"] for other in self.posted)
        self.posted.append(body)
        if taken:
            self._send({"detail": "a run of this logical date exists"}, 409)
        else:
            self._send({"dag_run_id": "manual__1"})

    def _page(self, query: dict[str, str], items: str, whole: list[dict[str, Any]]) -> None:
        begin, size = int(query.get("offset", 0)), min(100, int(query.get("limit", 50)))
        self._send({items: whole[begin : begin + size], "total_entries": len(whole)})

    def _send(self, answer: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Logs nothing."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    Airflow.posted = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Airflow) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.fixture
def api(server: ThreadingHTTPServer) -> AirflowApi:
    return AirflowApi(f"http://127.0.0.1:{server.server_port}", "token")


@pytest.fixture
def embedded(server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    class Running:
        class access:
            airflow = f"http://127.0.0.1:{server.server_port}"

        def running(self) -> bool:
            return True

        def token(self) -> str:
            return "token"

    monkeypatch.setattr(platform, "embedded", Running)


def test_a_dag_beyond_the_first_page_is_found(api: AirflowApi) -> None:
    assert api.dag_ids() == DAGS
    assert api.trigger("support__dag_248", {}).run_id == "manual__1"
    with pytest.raises(StepNotFound, match="did you mean 'support__dag_24"):
        api.trigger("support__dag_2499", {})


def test_each_mapped_task_has_its_own_state(api: AirflowApi) -> None:
    run = Run("support__dag_001", "r")
    api.refresh(run)
    assert len(run.tasks) == run.done == 151
    assert [task for task, state in run.tasks.items() if state == "failed"] == ["t[3]", "t[120]"]


def test_the_failed_indexes_are_named_with_the_end_of_their_logs(api: AirflowApi) -> None:
    run = Run("support__dag_001", "r")
    api.refresh(run)
    console = Console(file=io.StringIO(), width=80)
    assert not report_failures(api, [run], console)
    said = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.strip() for line in said] == [
        "support__dag_001 t[3] failed:", "no row 3", "support__dag_001 t[120] failed:", "no row 120",
    ]  # fmt: skip


def test_a_failed_run_without_a_failed_task_lists_the_other_tasks(api: AirflowApi) -> None:
    console = Console(file=io.StringIO(), width=80)
    run = Run("support__d", "r", "failed", {"a": "success", "b": "upstream_failed"})
    assert not report_failures(api, [run], console)
    assert console.file.getvalue() == "support__d is failed; b: upstream_failed\n"  # type: ignore[attr-defined]


@pytest.mark.usefixtures("embedded")
def test_a_run_has_the_current_logical_date_unless_one_is_given(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"a": 1, "b": "x"}')
    before = datetime.now(UTC)
    for options in (
        [],
        ["--date", "2026-09-01"],
        ["--date", "2026-09-01T12:00+03:00"],
        ["--date", "none", "--conf", f"@{tmp_path / 'p.json'}", "-p", "b=y"],
    ):
        done = CliRunner().invoke(app, ["trigger", "support__dag_001", *options])
        assert done.exit_code == 0, done.output
    now, day, noon, none = Airflow.posted
    assert before <= datetime.fromisoformat(now["logical_date"]) <= datetime.now(UTC)
    assert day["logical_date"] == "2026-09-01T00:00:00+00:00"
    assert noon["logical_date"] == "2026-09-01T12:00:00+03:00"
    assert none == {"logical_date": None, "conf": {"a": 1, "b": "y"}}
    assert day["conf"] == {}


@pytest.mark.usefixtures("embedded")
@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--date", "tomorrow"], "--date 'tomorrow' is not a date"),
        (["--conf", "[1]"], "--conf is not a JSON object"),
        (["--conf", "{"], "--conf is not JSON: "),
        (["--conf", "@gone.json"], "--conf @gone.json: No such file or directory"),
    ],
)
def test_invalid_arguments_are_refused_before_a_run_starts(options: list[str], what: str) -> None:
    done = CliRunner().invoke(app, ["trigger", "support__dag_001", *options])
    assert isinstance(done.exception, SpecError)
    assert done.exception.what.startswith(what)
    assert Airflow.posted == []


@pytest.mark.usefixtures("embedded")
def test_a_misspelt_parameter_starts_nothing() -> None:
    done = CliRunner().invoke(app, ["trigger", "support__dag_001", "-p", "limitt=3"])
    assert isinstance(done.exception, StepNotFound)
    assert done.exception.what == "support__dag_001 has no parameter 'limitt' (did you mean 'limit'?)"
    assert "its parameters are: b, limit" in done.exception.fix
    assert Airflow.posted == []
    assert CliRunner().invoke(app, ["trigger", "support__dag_001", "--conf", '{"path": "x"}']).exit_code == 0
    assert Airflow.posted[0]["conf"] == {"path": "x"}


def test_a_slow_server_may_have_started_the_run(api: AirflowApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kommuna.clients.http.TIMEOUT_SECONDS", 1)
    with pytest.raises(PlatformFault, match="is up, but did not answer within 1 s") as caught:
        api.trigger("support__dag_249", {})
    assert caught.value.fix.startswith("check in Airflow whether it was done")


def test_a_second_run_of_a_date_is_the_callers_mistake(api: AirflowApi) -> None:
    day = datetime(2026, 9, 1, tzinfo=UTC)
    api.trigger("support__dag_001", {}, date=day)
    with pytest.raises(StepNotFound, match="a run of this logical date exists") as caught:
        api.trigger("support__dag_001", {}, date=day)
    assert caught.value.exit_code == 2

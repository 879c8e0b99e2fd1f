"""Airflow's client against a server that restarts; proxies and a `.netrc` have no effect."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from kommuna.clients.airflow import AirflowApi, Run
from kommuna.cluster import check
from kommuna.errors import Outage, PlatformFault
from kommuna.outages import RetryPolicy

SOON = RetryPolicy(first=0.01, longest=0.01, total=1)


class Airflow(BaseHTTPRequestHandler):
    """Knows DAGs one after another, and fails as often as it is told to."""

    dags: ClassVar[list[str]] = []
    turning_up: ClassVar[list[str]] = []
    failures: ClassVar[list[int]] = []
    runs: ClassVar[dict[str, int]] = {}
    states: ClassVar[dict[str, str]] = {}
    broken: ClassVar[dict[str, str]] = {}
    values: ClassVar[dict[str, Any]] = {}

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/auth/token":
            self.send({"access_token": "abc"}, 201)
        else:
            dag = self.path.split("/")[4]
            self.runs[dag] = self.runs.get(dag, 0) + 1
            self.send({"dag_run_id": f"manual__{self.runs[dag]}"})

    def do_GET(self) -> None:
        if self.headers["Authorization"] != "Bearer abc":
            self.send({"detail": f"not a login: {self.headers['Authorization']}"}, 401)
        elif self.failures:
            self.send({"detail": "restarting"}, self.failures.pop())
        elif self.path.startswith("/api/v2/dags?"):
            self.send({"dags": [{"dag_id": dag} for dag in self.dags], "total_entries": len(self.dags)})
            if self.turning_up:
                self.dags.append(self.turning_up.pop())
        elif self.path.startswith("/api/v2/importErrors?"):
            errors = [
                {"filename": "a.py", "stack_trace": error, "bundle_name": team} for team, error in self.broken.items()
            ]
            self.send({"import_errors": errors, "total_entries": len(errors)})
        elif "xcomEntries" in self.path:
            task = self.path.split("/")[8] + self.path.partition("?map_index=")[2]
            known = task in self.values
            self.send({"value": self.values[task]} if known else {"detail": "not found"}, 200 if known else 404)
        elif "taskInstances" in self.path:
            self.send({"task_instances": [], "total_entries": 0})
        else:
            self.send({"state": self.states.get(self.path.split("/")[4], "success"), "duration": 1})

    def send(self, answer: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Airflow.dags, Airflow.turning_up, Airflow.failures = ["support__x"], [], []
    Airflow.runs, Airflow.states, Airflow.broken = {}, {}, {}
    with ThreadingHTTPServer(("127.0.0.1", 0), Airflow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_no_proxy_and_no_netrc_is_used(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert AirflowApi(url, "abc").dag_ids() == ["support__x"]


def test_a_restarting_server_is_retried_with_a_policy(url: str) -> None:
    Airflow.failures = [503, 500, 502]
    assert AirflowApi(url, "abc", policy=SOON).dag_ids() == ["support__x"]
    Airflow.failures = [503]
    with pytest.raises(Outage, match="503 restarting"):
        AirflowApi(url, "abc").dag_ids()


def test_a_request_of_the_callers_is_retried_with_a_policy_and_otherwise_answered_as_it_is(url: str) -> None:
    Airflow.failures = [503, 500]
    assert AirflowApi(url, "abc", policy=SOON).request("GET", "/dags?limit=1").status_code == 200
    Airflow.failures = [503]
    assert AirflowApi(url, "abc").request("GET", "/dags?limit=1").status_code == 503


def test_results_are_the_return_values_that_there_are_even_a_text(url: str) -> None:
    Airflow.values = {"step-1": {"rows": 1}, "said-1": "no JSON", "mapped3": [1], "json-1": '{"a": 1}'}
    tasks = dict.fromkeys(("step", "said", "mapped[3]", "json", "returns_nothing"), "success") | {"ill": "failed"}
    found = AirflowApi(url, "abc").results(Run("support__x", "r", "success", tasks))
    assert found == {"step": {"rows": 1}, "said": "no JSON", "mapped[3]": [1], "json": {"a": 1}}


def test_a_refusal_is_not_retried(url: str) -> None:
    with pytest.raises(PlatformFault, match="401 not a login: Bearer wrong") as refused:
        AirflowApi(url, "wrong", policy=RetryPolicy(first=100, total=900)).dag_ids()
    assert not isinstance(refused.value, Outage)


@pytest.fixture
def cluster(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation of two teams, as the check's pod has it."""
    teams = "".join(f"  {team}: {{bundle: dags/{team}}}\n" for team in ("support", "fraud"))
    (tmp_path / "kommuna.yaml").write_text(f"teams:\n{teams}")
    (tmp_path / "passwords.json").write_text('{"admin": "x"}')
    for team in ("support", "fraud"):
        (tmp_path / "dags" / team).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KOMMUNA_AIRFLOW", url)
    monkeypatch.setenv("KOMMUNA_PASSWORDS", str(tmp_path / "passwords.json"))
    monkeypatch.setattr(check, "WAIT_SECONDS", 5)
    monkeypatch.setattr(check, "RESTART", SOON)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_the_check_survives_a_restart_and_starts_each_teams_dag_once(capsys: pytest.CaptureFixture[str]) -> None:
    Airflow.dags, Airflow.turning_up = ["support__platform_check"], ["fraud__platform_check"]
    Airflow.failures = [503]
    assert check.main() == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "support__platform_check: success",
        "fraud__platform_check: success",
    ]
    assert Airflow.runs == {"support__platform_check": 1, "fraud__platform_check": 1}


@pytest.mark.usefixtures("cluster")
def test_the_check_names_failed_and_missing_dags(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "WAIT_SECONDS", 0.5)
    Airflow.dags, Airflow.states = ["support__platform_check"], {"support__platform_check": "failed"}
    assert check.main() == 1
    assert capsys.readouterr().out.splitlines() == [
        "support__platform_check: failed", "fraud__platform_check: the DAG did not appear in time",
    ]  # fmt: skip


def test_only_an_import_error_of_the_own_team_explains_an_absent_dag(url: str) -> None:
    api = AirflowApi(url, "abc")
    Airflow.dags, Airflow.turning_up = [], ["support__topics"]
    Airflow.broken = {"fraud": "ValueError: of another team"}
    api.wait_for_dags(["support__topics"], seconds=5)
    Airflow.broken = {"support": "ValueError: no such column"}
    with pytest.raises(PlatformFault, match=r"no DAG 'support__absent': a\.py: ValueError: no such column"):
        api.wait_for_dags(["support__absent"], seconds=5)

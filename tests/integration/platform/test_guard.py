"""The Execution API guard on the running platform: a task's real token against another team, and after the task's end.

The hostile task finds its supervisor's token on the stack of the process that it was forked from.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from tests.rigs import task_attacks
from tests.rigs.dag_runs import DagRuns
from tests.rigs.task_attacks import FOREIGN, NOW, REPORTS, VICTIM, Attacker

from kommuna.errors import PlatformFault
from kommuna.waiting import wait_until

if TYPE_CHECKING:
    from tests.integration.platform.conftest import Site

pytestmark = pytest.mark.timeout(900)
HOSTILE = """
import json, time
from pathlib import Path
from airflow.sdk import task
from kommuna.airflow import TeamDag
from task_attacks import seen

FOLDER = Path({folder!r})

with TeamDag("hostile", default_args={{"retries": 0}}):
    @task
    def stays(name, outlet=False, ti=None):
        (FOLDER / f"{{name}}.new").write_text(json.dumps(seen(ti)))
        (FOLDER / f"{{name}}.new").rename(FOLDER / f"{{name}}.json")
        while not (FOLDER / f"{{name}}.go").exists():
            time.sleep(0.1)
    stays.expand(name=["first", "second"])
"""
ORDINARY = """
from datetime import timedelta
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.providers.standard.operators.python import ShortCircuitOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.providers.standard.sensors.python import PythonSensor
from airflow.providers.standard.sensors.time_delta import TimeDeltaSensor
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import Asset, AssetAlias, BaseHook, Metadata, Variable, task
from kommuna.airflow import TeamDag

scores, alias = Asset("guard_scores"), AssetAlias("guard_alias")

def used(context):
    Variable.set("support__guard_callback", Variable.get("support__guard_limit"))

with TeamDag("child", schedule=None):
    EmptyOperator(task_id="nothing")

with TeamDag("ordinary", schedule=None, default_args={"retries": 0}):
    @task(on_success_callback=used)
    def variables():
        Variable.set("support__guard_limit", "5")
        found = Variable.get("support__guard_limit")
        Variable.set("support__guard_gone", "1")
        Variable.delete("support__guard_gone")
        try:
            BaseHook.get_connection("support__no_such")
        except Exception as error:
            found += " " + type(error).__name__
        return [found, Variable.get("fraud__guard_secret", default="none"), Variable.get("nobodys", default="none")]

    @task(retries=1, retry_delay=timedelta(seconds=1))
    def retried(ti=None):
        if ti.try_number == 1:
            raise ValueError("the first try")
        return ti.try_number

    @task
    def doubled(n):
        return 2 * n

    @task(outlets=[scores])
    def produces(outlet_events=None):
        outlet_events[scores].extra = {"rows": 3}

    @task(outlets=[alias])
    def aliased(outlet_events=None):
        outlet_events[alias].add(Asset("guard_made"), extra={"rows": 4})

    @task(inlets=[scores])
    def consumes(inlet_events=None):
        return [event.extra for event in inlet_events[scores]]

    @task
    def stored(task_store=None, ti=None):
        ti.xcom_push("a key", {"a": 1})
        return ti.xcom_pull(task_ids="variables")

    first = variables()
    first >> stored()
    retried()
    doubled.expand(n=[1, 2, 3])
    produces() >> consumes()
    aliased()
    ShortCircuitOperator(task_id="short", python_callable=lambda: False) >> EmptyOperator(task_id="skipped")
    TimeDeltaSensor(task_id="deferred", delta=timedelta(seconds=60), deferrable=True)
    PythonSensor(
        task_id="rescheduled", python_callable=lambda **context: context["ti"].get_first_reschedule_date(context) is not None,
        mode="reschedule", poke_interval=60,
    )
    ApprovalOperator(task_id="asks", subject="May it?")
    TriggerDagRunOperator(task_id="triggers", trigger_dag_id="child", wait_for_completion=True, poke_interval=1)
"""


class Attack:
    """The hostile DAG on the platform, with two running tasks, and the victim."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.folder = folder
        self.runs, self.victims = DagRuns(site), DagRuns(site, "fraud")
        self.files = [
            self.runs.write("task_attacks.py", Path(task_attacks.__file__).read_text()),
            self.runs.write("hostile.py", HOSTILE.format(folder=str(folder))),
            self.runs.write("ordinary.py", ORDINARY),
            self.victims.write("victim.py", VICTIM),
        ]
        for key in ("fraud__guard_secret", "support__guard_own"):
            self.runs.call("POST", "/variables", json={"key": key, "value": "secret"})
        self.runs.call("POST", "/connections", json={"connection_id": "fraud__guard_bank", "conn_type": "http"})
        dags = {"support__hostile", "support__ordinary", "support__child", "fraud__victim"}
        assert self.runs.await_dags(dags, 240) == dags, self.runs.import_errors()
        self.victim_run = self.victims.trigger("fraud__victim")
        assert self.victims.wait("fraud__victim", self.victim_run)[""] == "success"
        self.run = self.runs.trigger("support__hostile")
        self.first, self.second = self.attacker("first"), self.attacker("second")

    def attacker(self, name: str) -> Attacker:
        """Waits until a task runs, and takes its place."""
        path = self.folder / f"{name}.json"
        wait_until(f"{name} runs", path.exists, seconds=120)
        made = Attacker(self.site.embedded.access.airflow, json.loads(path.read_text()))
        assert made.start().status_code == 200
        assert made.token
        return made

    def let_go(self, name: str) -> None:
        """Has a task end."""
        (self.folder / f"{name}.go").touch()

    def state(self, attacker: Attacker) -> str:
        """The state of a task."""
        index = attacker.seen["map_index"]
        path = f"/dags/support__hostile/dagRuns/{self.run}/taskInstances/stays/{index}"
        return str(self.runs.call("GET", path).json()["state"])

    def audit(self) -> list[dict[str, Any]]:
        """The refusals in Airflow's audit log."""
        answer = self.runs.call("GET", "/eventLogs", params={"event": "task_request_refused", "limit": 100})
        return [json.loads(row["extra"]) | {"dag_id": row["dag_id"]} for row in answer.json()["event_logs"]]


@pytest.fixture(scope="module")
def attack(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attack]:
    folder = tmp_path_factory.mktemp("attack")
    made = Attack(site, folder)
    yield made
    for name in ("first", "second"):
        made.let_go(name)
    for path in made.files:
        path.unlink()


@pytest.mark.parametrize(("method", "path", "body", "status"), FOREIGN)
def test_a_running_task_does_not_reach_another_team(
    attack: Attack, method: str, path: str, body: Any, status: int
) -> None:
    named = path.format(run=attack.victim_run, other=attack.second.id, own=attack.first.id)
    answer = attack.first.ask(method, named, body)
    assert answer.status_code == status, answer.text
    if method != "HEAD":
        assert set(answer.json()["detail"]) >= {"reason", "message"}


def test_the_refusals_are_in_the_audit_log_with_team_task_and_reason(attack: Attack) -> None:
    attack.first.ask("PUT", "variables/fraud__squat", {"value": "1"})
    rows = [row for row in attack.audit() if row["what"] == "PUT /variables/fraud__squat"]
    assert rows[0]["team"] == "support"
    assert rows[0]["dag_id"] == "support__hostile"
    assert rows[0]["why"] == "'fraud__squat' does not belong to team 'support': name it 'support__…'"
    keys = [variable["key"] for variable in attack.runs.pages("/variables", "variables")]
    assert "fraud__squat" not in keys
    assert "fraud__guard_secret" in keys


def test_a_running_task_has_its_own(attack: Attack) -> None:
    own = attack.first
    assert own.ask("PUT", "variables/support__guard_own", {"value": "2"}).status_code == 201
    assert own.ask("GET", "variables/support__guard_own").json()["value"] == "2"
    keys = own.ask("GET", "variables/keys").json()["keys"]
    assert "support__guard_own" in keys
    assert not [key for key in keys if key.startswith("fraud__")]
    assert own.ask("GET", "dags/support__child").status_code == 200
    beat = {"hostname": own.seen["hostname"], "pid": own.seen["pid"]}
    assert own.ask("PUT", f"task-instances/{own.id}/heartbeat", beat).status_code == 204


def test_a_large_request_is_cut_off_with_and_without_its_length(attack: Attack) -> None:
    path = f"xcoms/support__hostile/{attack.run}/stays/large?map_index={attack.first.seen['map_index']}"
    assert attack.first.ask("POST", path, "x" * 3_000_000).status_code == 201
    refused = attack.first.ask("POST", path, "x" * 5_000_000)
    assert (refused.status_code, "more than 4,194,304 bytes" in refused.text) == (413, True)

    def chunks() -> Iterator[bytes]:
        for _ in range(200):
            yield b" " * 1_000_000

    sent = time.monotonic()
    with contextlib.suppress(requests.ConnectionError):  # the server may close the connection while we still send
        headers = {"Authorization": f"Bearer {attack.first.token}", "Content-Type": "application/json"}
        url = f"{attack.first.url}/execution/{path}"
        assert requests.post(url, data=chunks(), headers=headers, timeout=60).status_code == 413
    assert time.monotonic() - sent < 20
    assert attack.first.ask("DELETE", path).status_code == 200


def test_without_a_valid_token_nothing_is_open_but_the_servers_health(attack: Attack) -> None:
    url = f"{attack.first.url}/execution"
    assert requests.get(f"{url}/health", timeout=30).status_code == 200
    assert requests.get(f"{url}/variables/keys", timeout=30).status_code == 401
    head, body, _ = attack.first.token.split(".")
    for token in ("x", f"{head}.{body}.x", attack.site.embedded.token("admin")):
        assert attack.first.ask("GET", "variables/keys", token=token).status_code == 403


def test_a_person_does_not_use_the_executors_token_as_a_tasks(attack: Attack) -> None:
    refused = attack.first.ask("GET", "variables/keys", token=attack.first.seen["token"])
    assert (refused.status_code, "only starts a task" in refused.text) == (403, True)


@pytest.mark.parametrize(
    "body",
    REPORTS,
)
def test_a_refused_report_fails_the_task_and_stays_refused(attack: Attack, body: dict[str, Any]) -> None:
    refused = attack.second.ask("PATCH", f"task-instances/{attack.second.id}/state", body)
    assert refused.status_code in (403, 409), refused.text
    assert attack.state(attack.second) == "failed"


def test_an_ended_task_has_nothing(attack: Attack) -> None:
    ended = attack.first
    attack.let_go("first")
    with contextlib.suppress(PlatformFault):
        wait_until("it ended", lambda: attack.state(ended) == "success", seconds=60)
    assert attack.state(ended) == "success"
    # Its process may still run callbacks, so for a moment the token works. It is not renewed, and starts nothing.
    soon = ended.ask("GET", "variables/support__guard_own")
    assert soon.status_code == 200
    assert ended.start().status_code == 409
    gone = lambda: ended.ask("GET", "variables/support__guard_own").status_code == 409  # noqa: E731
    wait_until("its process has had its time", gone, seconds=60)
    for method, path, body in (
        ("GET", "variables/support__guard_own", None),
        ("PUT", "variables/support__guard_own", {"value": "3"}),
        ("GET", "variables/keys", None),
        ("GET", "dags/support__child", None),
        ("POST", "dag-runs/support__child/made", {}),
        ("POST", f"xcoms/support__hostile/{attack.run}/stays/late", 1),
        ("PATCH", f"task-instances/{ended.id}/state", {"state": "failed", "end_date": NOW}),
        ("PATCH", f"task-instances/{ended.id}/rendered-map-index", "x"),
        ("PUT", f"task-instances/{ended.id}/rtif", {}),
        ("POST", f"hitlDetails/{ended.id}", {"ti_id": ended.id, "options": ["x"], "subject": "x"}),
    ):
        answer = ended.ask(method, path, body)
        assert answer.status_code == 409, (path, answer.text)
        assert "Refreshed-API-Token" not in answer.headers
    assert ended.start().status_code == 409
    assert "Refreshed-API-Token" not in ended.start().headers
    beat = {"hostname": ended.seen["hostname"], "pid": ended.seen["pid"]}
    assert ended.ask("PUT", f"task-instances/{ended.id}/heartbeat", beat).status_code == 409


def test_a_task_whose_run_is_deleted_has_nothing(attack: Attack) -> None:
    for name in ("first", "second"):
        attack.let_go(name)
    assert attack.runs.wait("support__hostile", attack.run, 120)[""] != "running"
    assert attack.runs.call("DELETE", f"/dags/support__hostile/dagRuns/{attack.run}").status_code == 204
    for path in ("variables/keys", "variables/nobodys", "dags/support__child"):
        answer = attack.first.ask("GET", path)
        assert (answer.status_code, answer.json()["detail"]["reason"]) == (404, "not_found")


@pytest.mark.timeout(900)
def test_the_ordinary_life_of_a_task_goes_on(attack: Attack) -> None:
    runs = attack.runs
    run = runs.trigger("support__ordinary")
    path = f"/dags/support__ordinary/dagRuns/{run}/taskInstances"

    def the_rest_is_over() -> bool:
        states = {task["task_id"]: task["state"] for task in runs.pages(path, "task_instances")}
        return states.pop("asks") == "awaiting_input" and set(states.values()) <= {"success", "failed", "skipped"}

    # Airflow's scheduler fails a task that goes on before its process has ended: the answer comes late, and the
    # waits of the deferred and of the rescheduled task are long.
    wait_until("the question is asked and the rest is over", the_rest_is_over, seconds=300, every=1)
    question = f"{path}/asks/-1"
    answer = {"chosen_options": ["Approve"], "params_input": {}}
    assert runs.call("PATCH", f"{question}/hitlDetails", json=answer).ok
    states = runs.wait("support__ordinary", run, 240)
    expected = dict.fromkeys(states, "success") | {"skipped": "skipped"}
    assert states == expected, {
        name: runs.log("support__ordinary", run, name)[-3000:]
        for name, state in states.items()
        if name and state != expected[name]
    }
    assert runs.xcom("support__ordinary", run, "variables") == ["5 AirflowNotFoundException", "none", "none"]
    assert runs.xcom("support__ordinary", run, "stored") == ["5 AirflowNotFoundException", "none", "none"]
    assert runs.xcom("support__ordinary", run, "retried") == 2
    assert {"rows": 3} in runs.xcom("support__ordinary", run, "consumes")
    made = runs.call("GET", "/assets/events", params={"source_dag_id": "support__ordinary"}).json()["asset_events"]
    assert {event["name"] for event in made} == {"support__guard_scores", "support__guard_made"}
    callback = runs.call("GET", "/variables/support__guard_callback")
    assert callback.json()["value"] == "5"

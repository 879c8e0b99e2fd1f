"""What a task of the support team tries with its own token: against another team, and against other task instances.

The module needs nothing of the tests: a hostile DAG file imports it from its bundle.
"""

from __future__ import annotations

import getpass
import os
import sys
import uuid
from dataclasses import dataclass, field
from typing import Any

import requests

VICTIM = """
from airflow.sdk import Asset, task
from airflow.providers.standard.operators.empty import EmptyOperator
from kommuna.airflow import TeamDag

with TeamDag("victim", schedule=None):
    EmptyOperator(task_id="nothing", outlets=[Asset("secret"), Asset("at", uri="s3://fraud/at")])
"""
DEFER = {"state": "deferred", "classpath": "subprocess.Popen", "trigger_kwargs": {"args": ["id"]}, "next_method": "x"}
CALLBACK = {"x": {"__classname__": "airflow.sdk.definitions.callback.AsyncCallback", "__version__": 0, "__data__": {}}}
NOW = "2026-11-30T00:00:00Z"
VICTIM_XCOM = "xcoms/fraud__victim/{run}/nothing/return_value"
FOREIGN = [
    ("GET", "variables/fraud__guard_secret", None, 404),
    ("PUT", "variables/fraud__squat", {"value": "1"}, 403),
    ("PUT", "variables/fraud__guard_secret", {"value": "1"}, 403),
    ("PUT", "variables/everybodys", {"value": "1"}, 403),
    ("DELETE", "variables/fraud__guard_secret", None, 403),
    ("GET", "connections/fraud__guard_bank", None, 404),
    ("GET", VICTIM_XCOM, None, 403),
    ("HEAD", VICTIM_XCOM, None, 403),
    ("GET", f"{VICTIM_XCOM}/slice", None, 403),
    ("GET", f"{VICTIM_XCOM}/item/0", None, 403),
    ("POST", VICTIM_XCOM, 1, 403),
    ("DELETE", VICTIM_XCOM, None, 403),
    ("POST", "dag-runs/fraud__victim/made", {"conf": {"gate": "f1_macro >= 0"}}, 403),
    ("POST", "dag-runs/fraud__victim/{run}/clear", None, 403),
    ("GET", "dag-runs/fraud__victim/{run}", None, 403),
    ("GET", "dag-runs/fraud__victim/{run}/state", None, 403),
    ("GET", "dag-runs/count?dag_id=fraud__victim", None, 403),
    ("GET", "dag-runs/count?dag_id=fraud__victim&dag_id=support__hostile", None, 403),
    ("GET", f"dag-runs/previous?dag_id=fraud__victim&logical_date={NOW}", None, 403),
    ("GET", "dag-runs/count?dag_id=support__no_such", None, 403),
    ("GET", "dags/fraud__victim", None, 403),
    ("GET", "task-instances/count?dag_id=fraud__victim", None, 403),
    ("GET", "task-instances/states?dag_id=fraud__victim", None, 403),
    ("GET", "task-instances/breadcrumbs?dag_id=fraud__victim&run_id={run}", None, 403),
    ("GET", "task-instances/previous/fraud__victim/nothing", None, 403),
    ("GET", "assets/by-name?name=fraud__secret", None, 403),
    ("GET", "assets/by-uri?uri=s3://fraud/at", None, 403),
    ("GET", "assets/by-uri?uri=s3://fraud/at&name=support__x", None, 403),
    ("GET", "assets/by-alias?alias_name=fraud__alias", None, 403),
    ("GET", "asset-events/by-asset?name=fraud__secret&uri=", None, 403),
    ("GET", "asset-events/by-asset-alias?name=fraud__alias", None, 403),
    ("GET", "store/asset/by-name/value?name=fraud__secret&key=k", None, 403),
    ("PUT", "store/asset/by-name/value?name=fraud__secret&key=k", {"value": 1}, 403),
    ("DELETE", "store/asset/by-uri/clear?uri=s3://fraud/at", None, 403),
    ("GET", "store/ti/{other}/k", None, 403),
    ("PUT", "store/ti/{other}/k", {"value": 1}, 403),
    ("PATCH", "task-instances/{other}/state", {"state": "failed", "end_date": NOW}, 403),
    ("PUT", "task-instances/{other}/rtif", {}, 403),
    ("POST", "hitlDetails/{other}", {"ti_id": str(uuid.UUID(int=1)), "options": ["x"], "subject": "x"}, 403),
    ("PATCH", "hitlDetails/{own}", {"ti_id": str(uuid.UUID(int=1)), "chosen_options": ["Approve"]}, 403),
    ("PATCH", "task-instances/{own}/run", {}, 403),
    ("GET", "connection-tests/{own}/connection", None, 403),
    ("GET", "secrets/x", None, 403),
    ("GET", "variables", None, 403),
]
REPORTS = [
    DEFER,
    {**DEFER, "classpath": "airflow.providers.standard.triggers.temporal.DateTimeTrigger"},
    {"state": "awaiting_input", "next_method": "x", "next_kwargs": CALLBACK},
    {"state": "success", "end_date": NOW, "task_outlets": [{"name": "fraud__secret", "type": "AssetNameRef"}]},
    {"state": "up_for_retry", "end_date": NOW, "retry_delay_seconds": 1e300},
]


def seen(ti: Any) -> dict[str, Any]:
    """Returns what a task's code finds out about its own instance, the token by which it was started included."""
    from airflow.utils.net import get_hostname

    return {
        "token": _found_token(), "id": str(ti.id), "hostname": get_hostname(), "unixname": getpass.getuser(),
        "pid": os.getpid(), "run_id": ti.run_id, "map_index": ti.map_index,
    }  # fmt: skip


def _found_token() -> str:
    """Returns the supervisor's token, from the stack of the process that this one was forked from."""
    frame = sys._getframe()
    while frame is not None:
        found = frame.f_locals.get("token")
        if isinstance(found, str) and found.count(".") == 2:
            return found
        frame = frame.f_back  # type: ignore[assignment]
    raise LookupError("no token on the stack")


@dataclass
class Attacker:
    """A task of the support team, seen by its code: its tokens, and requests with them."""

    url: str
    seen: dict[str, Any]
    token: str = field(default="", init=False)

    def start(self, token: str = "") -> requests.Response:
        """Repeats the request by which the executor starts the task; the answer holds a fresh token."""
        body = {name: self.seen[name] for name in ("hostname", "unixname", "pid")}
        body |= {"state": "running", "start_date": "2026-01-01T00:00:00Z"}
        answer = self.ask("PATCH", f"task-instances/{self.id}/run", body, token=token or self.seen["token"])
        self.token = answer.headers.get("Refreshed-API-Token", self.token)
        return answer

    @property
    def id(self) -> str:
        """The id of its task instance."""
        return str(self.seen["id"])

    def ask(self, method: str, path: str, body: Any = None, *, token: str = "", **options: Any) -> requests.Response:
        """Sends a request with the task's token."""
        headers = {"Authorization": f"Bearer {token or self.token}"}
        return requests.request(
            method, f"{self.url}/execution/{path}", headers=headers, json=body, timeout=60, **options
        )

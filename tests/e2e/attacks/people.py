"""The rows of the team that people attack, and the tokens that they try."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import requests
from tests.rigs.walk import Call

from kommuna.waiting import wait_until

# Fraud's DAG file, which has rows of every kind, and another that has an import error.
VICTIM = """
from datetime import datetime
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Asset, AssetAlias, task
from kommuna.airflow import TeamDag

with TeamDag("walked", schedule=None, start_date=datetime(2026, 1, 1)):
    @task(outlets=[Asset("walked_asset"), AssetAlias("walked_alias")])
    def gives(ti=None):
        ti.xcom_push("walked_key", "fraud__walked_value")
    gives() >> ApprovalOperator(task_id="walked_asks", subject="walked_subject")
"""
BROKEN = {"broken_file_of_fraud.py": "from airflow.sdk import DAG\nraise ValueError('walked_error')\n"}
# Words that no row of another team has.
MARKS = ("walked", "broken_file_of_fraud")
Ask = Callable[..., requests.Response]  # (method, path, body=None) as the admin


def make_rows(ask: Ask) -> dict[str, Any]:
    """Waits for fraud's files, and makes its rows of every kind; returns a value for each name in a template."""
    dag = "/api/v2/dags/fraud__walked"
    wait_until("fraud's DAG is parsed", lambda: ask("GET", dag).status_code == 200, seconds=180)
    for kind, body in (
        ("variables", {"key": "fraud__walked_variable", "value": "walked"}),
        ("connections", {"connection_id": "fraud__walked_connection", "conn_type": "http"}),
    ):
        assert ask("POST", f"/api/v2/{kind}", body).status_code in (201, 409)
    assert ask("PATCH", dag, {"is_paused": False}).status_code == 200
    run = ask("POST", f"{dag}/dagRuns", {"logical_date": None}).json()["dag_run_id"]
    wait_until(
        "the asset has an event", lambda: "walked_asset" in ask("GET", "/api/v2/assets/events").text, seconds=180
    )
    errors = "/api/v2/importErrors?limit=100&filename_pattern=broken_file"
    wait_until("the import error is stored", lambda: "broken_file" in ask("GET", errors).text, seconds=180)

    def named(path: str, items: str, name: str) -> Any:
        return next(one["id"] for one in ask("GET", path).json()[items] if one["name"] == f"fraud__{name}")

    return {
        "dag_id": "fraud__walked", "dag_run_id": run, "run_id": run, "task_id": "gives", "map_index": -1,
        "try_number": 1, "task_try_number": 1, "version_number": 1, "xcom_key": "walked_key", "key": "walked",
        "asset_id": named("/api/v2/assets?limit=100", "assets", "walked_asset"),
        "asset_alias_id": named("/api/v2/assets/aliases?limit=100", "asset_aliases", "walked_alias"),
        "import_error_id": next(
            one["import_error_id"] for one in ask("GET", errors).json()["import_errors"] if "broken_file" in one["filename"]
        ),
        "event_log_id": ask("GET", "/api/v2/eventLogs?dag_id=fraud__walked").json()["event_logs"][0]["event_log_id"],
        "pool_name": "fraud__default", "variable_key": "fraud__walked_variable", "backfill_id": 1,
        "connection_id": "fraud__walked_connection", "section": "core", "option": "fernet_key",
        "team": "fraud", "file_token": ask("GET", dag).json()["file_token"], "of_hitl": {"task_id": "walked_asks"},
        "new": dict.fromkeys(("key", "name", "connection_id"), "fraud__squat"),
    }  # fmt: skip


def forged(token: str, secret: str) -> Iterator[tuple[str, str]]:
    """Yields tokens that a person of support could make or find, and what is wrong with each.

    Args:
        token: a good one.
        secret: by which the server signs tokens.
    """
    good = jwt.decode(token, options={"verify_signature": False})
    now = int(time.time())
    for what, claims, key in (
        ("a token that is signed with another key", good, secret + "x"),
        ("an expired token", good | {"exp": now - 3600, "iat": now - 7200, "nbf": now - 7200}, secret),
        ("a token for another audience", good | {"aud": "another"}, secret),
        ("a token of somebody who left", good | {"sub": "gone"}, secret),
        ("a token with another team", good | {"teams": ["fraud"]}, secret),
        ("a token with another role", good | {"role": "admin"}, secret),
    ):
        yield what, jwt.encode(claims, key, algorithm="HS512")


def rows(ask: Ask) -> list[list[str]]:
    """Returns the names of what fraud has, as the admin sees it."""
    paths = ("variables", "connections", "pools", "dags/fraud__walked/dagRuns", "assets")
    texts = [ask("GET", f"/api/v2/{path}?limit=1000").text for path in paths]
    return [sorted(name for name in text.replace(",", " ").split() if "fraud__" in name) for text in texts]


def shown(call: Call, login: str | None) -> str:
    """Returns an answer without the audit rows of the caller's own requests, which name what was asked for."""
    if call.template != "/api/v2/eventLogs":
        return call.text
    return json.dumps([row for row in json.loads(call.text)["event_logs"] if row["owner"] != login])

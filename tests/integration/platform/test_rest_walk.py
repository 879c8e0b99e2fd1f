"""People of one team walk the whole REST API of the running platform, and find nothing of the other team."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import requests
from tests.rigs.rest_walk import Call, endpoints, walk

from kommuna.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.platform.conftest import Site

pytestmark = pytest.mark.timeout(900)
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
MARKS = ("fraud__", "walked", "broken_file_of_fraud")


def _call(site: Site, method: str, path: str, login: str, body: Any = None, **headers: str) -> requests.Response:
    headers = {"Authorization": f"Bearer {site.embedded.token(login)}", **headers}
    return requests.request(method, f"{site.embedded.access.airflow}{path}", headers=headers, json=body, timeout=60)


@pytest.fixture(scope="module")
def ids(site: Site) -> Iterator[dict[str, Any]]:
    """Makes fraud's rows of every kind, and yields their ids; the files are gone after it."""
    folder = site.root / "dags" / "fraud"
    files = {
        folder / "walked.py": VICTIM,
        folder / "broken_file_of_fraud.py": "from airflow.sdk import DAG\nraise ValueError('walked_error')\n",
    }
    for file, text in files.items():
        file.write_text(text)
    dag = "/api/v2/dags/fraud__walked"
    wait_until("fraud's DAG is parsed", lambda: site.get(dag).status_code == 200)
    for kind, body in (
        ("variables", {"key": "fraud__walked_variable", "value": "walked"}),
        ("connections", {"connection_id": "fraud__walked_connection", "conn_type": "http"}),
    ):
        assert _call(site, "POST", f"/api/v2/{kind}", "fraud", body).status_code in (201, 409)
    assert _call(site, "PATCH", dag, "fraud", {"is_paused": False}).status_code == 200
    run = _call(site, "POST", f"{dag}/dagRuns", "fraud", {"logical_date": None}).json()["dag_run_id"]
    events = "/api/v2/assets/events"
    wait_until("the asset has an event", lambda: "walked_asset" in site.get(events).text)
    errors = "/api/v2/importErrors"
    wait_until("the import error is stored", lambda: "broken_file" in site.get(errors).text)
    assets = site.get("/api/v2/assets").json()["assets"]
    yield {
        "dag_id": "fraud__walked", "dag_run_id": run, "run_id": run, "task_id": "gives", "map_index": -1,
        "try_number": 1, "task_try_number": 1, "version_number": 1, "xcom_key": "walked_key", "key": "walked",
        "asset_id": next(one["id"] for one in assets if one["name"] == "fraud__walked_asset"),
        "asset_alias_id": site.get("/api/v2/assets/aliases").json()["asset_aliases"][0]["id"],
        "import_error_id": site.get(errors).json()["import_errors"][0]["import_error_id"],
        "event_log_id": site.get("/api/v2/eventLogs?dag_id=fraud__walked").json()["event_logs"][0]["event_log_id"],
        "pool_name": "fraud__default", "variable_key": "fraud__walked_variable", "backfill_id": 1,
        "connection_id": "fraud__walked_connection", "section": "core", "option": "fernet_key",
    }  # fmt: skip
    for file in files:
        file.unlink()


def _foreign(text: str) -> list[str]:
    return [mark for mark in MARKS if mark in text]


def _shown(call: Call, login: str | None) -> str:
    """Returns an answer's text without the audit rows of what the caller asked for itself, which names what it asked."""
    if call.template != "/api/v2/eventLogs":
        return call.text
    return json.dumps([row for row in json.loads(call.text)["event_logs"] if row["owner"] != login])


def _state(site: Site, ids: dict[str, Any]) -> str:
    """Returns what fraud has, as the admin sees it."""
    dag = f"/api/v2/dags/{ids['dag_id']}"
    paths = ("/api/v2/variables", "/api/v2/connections", "/api/v2/pools", f"{dag}/dagRuns", "/api/v2/assets")
    return json.dumps([
        sorted(name for name in site.get(path).text.replace(",", " ").split() if "fraud__" in name) for path in paths
    ])  # fmt: skip


@pytest.mark.parametrize("login", ["support", None])
def test_a_walk_finds_and_changes_nothing_of_another_team(site: Site, ids: dict[str, Any], login: str | None) -> None:
    url, admin = site.embedded.access.airflow, site.embedded.token("admin")
    paths = endpoints(url, admin)
    body = {
        "dag_id": ids["dag_id"], "asset_id": ids["asset_id"], "key": "fraud__squat", "connection_id": "fraud__squat",
        "conn_type": "http", "name": "fraud__squat", "pool": "fraud__squat", "slots": 1, "value": "1",
        "is_paused": True, "logical_date": None, "state": "failed", "note": "was here", "include_deferred": False,
        "from_date": "2026-01-01T00:00:00Z", "to_date": "2026-01-02T00:00:00Z",
    }  # fmt: skip
    before, started = _state(site, ids), time.monotonic()
    calls = list(walk(url, login and site.embedded.token(login), paths, ids, body))
    known = [call for call in calls if call.status not in (404, 405)]
    print(
        f"{login}: {len(paths)} endpoints of {len(paths)} (100 %), {len(calls)} calls, {time.monotonic() - started:.0f} s"
    )
    assert len(paths) > 110
    assert [call for call in known if call.status >= 500] == []
    # What was asked may stand in a refusal's words; an answer of success names nothing foreign.
    answered = [call for call in known if call.status < 300]
    leaks = [(one.method, one.template, _shown(one, login)[:2000]) for one in answered if _foreign(_shown(one, login))]
    assert leaks == []
    assert _state(site, ids) == before


def test_lists_have_the_totals_of_the_own_rows(site: Site, ids: dict[str, Any]) -> None:
    for path, name in (
        ("assets", "assets"), ("assets/events", "asset_events"), ("importErrors", "import_errors"),
        ("assets/aliases", "asset_aliases"), ("eventLogs", "event_logs"),
    ):  # fmt: skip
        found = site.get(f"/api/v2/{path}?limit=100", "support").json()
        assert found["total_entries"] == len(found[name]) or len(found[name]) == 100, path
    assert "walked_asset" in site.get("/api/v2/assets", "fraud").text
    assert "broken_file" in site.get("/api/v2/importErrors", "fraud").text


def test_a_token_that_is_forged_expired_or_of_another_audience_opens_nothing(site: Site) -> None:
    secret = site.embedded.environment()["AIRFLOW__API_AUTH__JWT_SECRET"]
    good = jwt.decode(site.embedded.token("support"), options={"verify_signature": False})
    now = int(time.time())
    for claims, key in (
        (good, secret + "x"),
        (good | {"exp": now - 3600, "iat": now - 7200, "nbf": now - 7200}, secret),
        (good | {"aud": "another"}, secret),
        (good | {"sub": "gone"}, secret),
        (good | {"teams": ["fraud"]}, secret),
        (good | {"role": "admin"}, secret),
    ):
        headers = {"Authorization": f"Bearer {jwt.encode(claims, key, algorithm='HS512')}"}
        answer = requests.get(f"{site.embedded.access.airflow}/api/v2/dags", headers=headers, timeout=60)
        assert answer.status_code in (401, 403), claims


def test_another_sites_page_writes_nothing(site: Site) -> None:
    body = {"key": "support__elsewhere", "value": "1"}
    refused = _call(site, "POST", "/api/v2/variables", "support", body, Origin="https://evil.example")
    assert (refused.status_code, "another site" in refused.text) == (403, True)
    assert (
        _call(site, "POST", "/api/v2/variables", "support", body, Origin=site.embedded.access.airflow).status_code
        == 201
    )
    assert _call(site, "DELETE", "/api/v2/variables/support__elsewhere", "support").status_code == 204


def test_failed_sign_ins_are_limited_and_a_refusal_is_recorded(site: Site) -> None:
    url = f"{site.embedded.access.airflow}/auth/token"
    answers = [requests.post(url, json={"username": "nobody", "password": "x"}, timeout=60) for _ in range(11)]
    assert [one.status_code for one in answers] == [401] * 10 + [429]
    assert int(answers[-1].headers["retry-after"]) > 0
    assert _call(site, "GET", "/api/v2/jobs", "support").status_code == 403
    assert "person_request_refused" in site.get("/api/v2/eventLogs?event=person_request_refused").text

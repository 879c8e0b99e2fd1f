"""People of one team walk the whole REST API of the running platform, and find nothing of the other team."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import requests
from tests.rigs.rest_walk import Document
from tests.rigs.walk import Call, unread, walk

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

with TeamDag("walked_TEAM", schedule=None, start_date=datetime(2026, 1, 1)):
    @task(outlets=[Asset("walked_TEAM_asset"), AssetAlias("walked_TEAM_alias")])
    def gives(ti=None):
        ti.xcom_push("walked_TEAM_key", "TEAM__walked_value")
    gives() >> ApprovalOperator(task_id="asks", subject="walked_TEAM_subject")

# Paused, so that its backfill does not end by itself during a walk.
with TeamDag("walked_TEAM_daily", schedule="@daily", start_date=datetime(2026, 1, 1), catchup=False,
             is_paused_upon_creation=True):
    EmptyOperator(task_id="waits")
"""
BROKEN = "from airflow.sdk import DAG\nraise ValueError('walked_TEAM_error')\n"
TEAMS = ("support", "fraud")
# Of the tests of publishing: an asset for fraud with the DAGs that make and follow it, and one that fraud's DAG names.
KNOWN = ("support__published", "support__publishing", "support__derived", "support__kept")
# Who walks, against whose things. One of them tries every method of every path, the others those that there are.
WALKS = (
    ("support", "fraud"), ("support-viewer", "fraud"), ("support-user", "fraud"), ("fraud", "support"), (None, "fraud"),
)  # fmt: skip
# What changes by itself, and what others may have done.
VOLATILE = {
    "last_parsed_time", "last_parsed", "last_parse_duration", "last_scheduling_decision", "last_expired", "last_loaded", "file_token", "occupied_slots",
    "running_slots", "queued_slots", "scheduled_slots", "open_slots", "deferred_slots", "triggerer_job", "trigger",
    "latest_heartbeat",
}  # fmt: skip


def _call(site: Site, method: str, path: str, login: str, body: Any = None, **headers: str) -> requests.Response:
    return site.call(method, path, login, json=body, headers=headers)


@pytest.fixture(scope="module")
def walked(site: Site) -> Iterator[dict[str, dict[str, Any]]]:
    """Makes each team's rows of every kind, and yields their ids by team; the files are gone after it."""
    texts = {(team, name): text for team in TEAMS for name, text in (("walked", VICTIM), ("broken_file_of", BROKEN))}
    files = {site.root / "dags" / team / f"{name}_{team}.py": (team, text) for (team, name), text in texts.items()}
    for file, (team, text) in files.items():
        file.write_text(text.replace("TEAM", team))
    yield {team: _ids(site, team) for team in TEAMS}
    for file in files:
        file.unlink()


def _ids(site: Site, team: str) -> dict[str, Any]:
    name = f"{team}__walked_{team}"
    dag, daily = f"/api/v2/dags/{name}", f"{name}_daily"
    wait_until(f"{team}'s DAGs are parsed", lambda: site.get(f"{dag}_daily").status_code == 200)
    for kind, body in (
        ("variables", {"key": f"{name}_variable", "value": "walked"}),
        ("connections", {"connection_id": f"{name}_connection", "conn_type": "http"}),
    ):
        assert _call(site, "POST", f"/api/v2/{kind}", team, body).status_code in (201, 409)
    assert _call(site, "PATCH", dag, team, {"is_paused": False}).status_code == 200
    run = _call(site, "POST", f"{dag}/dagRuns", team, {"logical_date": None}).json()["dag_run_id"]
    days = {
        "dag_id": daily,
        "from_date": "2026-01-01T00:00:00Z",
        "to_date": "2026-01-02T00:00:00Z",
        "max_active_runs": 1,
    }
    backfill = _call(site, "POST", "/api/v2/backfills", team, days)
    assert backfill.status_code == 200, backfill.text
    asked = f"{dag}/dagRuns/{run}/taskInstances/asks/-1/hitlDetails"
    wait_until("the task asks", lambda: site.get(asked).status_code == 200)
    wait_until("the import error is stored", lambda: f"of_{team}" in site.get("/api/v2/importErrors").text)
    return {
        "team": team, "dag_id": name, "dag_run_id": run, "run_id": run, "task_id": "gives", "map_index": -1,
        "try_number": 1, "task_try_number": 1, "version_number": 1, "xcom_key": f"walked_{team}_key", "key": "walked",
        "asset_id": _found(site, "assets", "name", f"{name}_asset")["id"],
        "asset_alias_id": _found(site, "assets/aliases", "name", f"{name}_alias")["id"],
        "import_error_id": _found(site, "importErrors", "bundle_name", team)["import_error_id"],
        "event_log_id": _found(site, f"eventLogs?dag_id={name}", "dag_id", name)["event_log_id"],
        "file_token": site.get(dag).json()["file_token"], "backfill_id": backfill.json()["id"],
        "pool_name": f"{team}__default", "variable_key": f"{name}_variable", "connection_id": f"{name}_connection",
        "section": "core", "option": "fernet_key",
        "new": {"key": f"{team}__squat", "name": f"{team}__squat", "connection_id": f"{team}__squat"},
        "of_hitl": {"task_id": "asks"},
    }  # fmt: skip


def _found(site: Site, path: str, key: str, value: str) -> dict[str, Any]:
    answer = site.get(f"/api/v2/{path}").json()
    (rows,) = (rows for rows in answer.values() if isinstance(rows, list))
    found: dict[str, Any] = next(row for row in rows if row[key] == value)
    return found


def _foreign(text: str, team: str) -> list[str]:
    for name in KNOWN:
        text = text.replace(name, "")
    return [mark for mark in (f"{team}__", f"walked_{team}", f"broken_file_of_{team}") if mark in text]


def _shown(call: Call, login: str | None) -> str:
    """Returns an answer's text without the audit rows of what the caller asked for itself, which names what it asked."""
    if call.template != "/api/v2/eventLogs":
        return call.text
    return json.dumps([row for row in json.loads(call.text)["event_logs"] if row["owner"] != login])


def _state(site: Site, ids: dict[str, Any]) -> dict[str, Any]:
    """Returns what a team has, in full, as the admin sees it; without what changes by itself."""
    dag, daily = (f"/api/v2/dags/{ids['dag_id']}{suffix}" for suffix in ("", "_daily"))
    run, asset = f"{dag}/dagRuns/{ids['dag_run_id']}", f"/api/v2/assets/{ids['asset_id']}"
    everything = {kind: f"/api/v2/{kind}?limit=1000" for kind in ("variables", "connections", "pools", "importErrors")}
    paths = [
        f"{dag}/details", f"{daily}/details", f"{dag}/dagRuns", f"{daily}/dagRuns", f"{dag}/dagVersions",
        f"{run}/taskInstances", f"{run}/taskInstances/gives/xcomEntries/{ids['xcom_key']}",
        f"{run}/taskInstances/asks/-1/hitlDetails", f"{run}/taskInstances/gives/state-store",
        f"{run}/taskInstances/gives/tries", asset, f"{asset}/state-store", f"{asset}/queuedEvents",
        f"/api/v2/assets/events?asset_id={ids['asset_id']}", f"/api/v2/backfills/{ids['backfill_id']}",
        f"{dag}/assets/queuedEvents",
    ]  # fmt: skip
    found = {path: _stable(site.get(path).json()) for path in paths}
    for kind, path in everything.items():
        (rows,) = (rows for rows in site.get(path).json().values() if isinstance(rows, list))
        # A broken file is parsed again and again, each time with a new `timestamp` of its error.
        found[kind] = [_stable(row | {"timestamp": None}) for row in rows if ids["team"] in json.dumps(row)]
    return found


def _stable(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: _stable(value) for key, value in document.items() if key not in VOLATILE}
    return [_stable(one) for one in document] if isinstance(document, list) else document


def _changes(place: str, before: Any, after: Any) -> Iterator[str]:
    """Yields where two documents differ."""
    if isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        for key in before:
            yield from _changes(f"{place}.{key}", before[key], after[key])
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _changes(f"{place}[{number}]", old, new)
    elif before != after:
        yield f"{place}: {before} -> {after}"


@pytest.fixture
def own_dags_as_before(site: Site) -> Iterator[None]:
    """Restores what a walk may do to the DAGs of the walker's own team: `PATCH /dags` names no team."""
    paused = {one["dag_id"]: one["is_paused"] for one in site.get("/api/v2/dags?limit=1000").json()["dags"]}
    yield
    for one in site.get("/api/v2/dags?limit=1000").json()["dags"]:
        before = paused.get(one["dag_id"], one["is_paused"])
        if one["is_paused"] != before:
            assert _call(site, "PATCH", f"/api/v2/dags/{one['dag_id']}", "admin", {"is_paused": before}).ok


@pytest.mark.usefixtures("own_dags_as_before")
@pytest.mark.parametrize(("login", "victim"), WALKS)
def test_a_walk_finds_and_changes_nothing_of_another_team(
    site: Site, walked: dict[str, dict[str, Any]], login: str | None, victim: str
) -> None:
    url, ids = site.embedded.access.airflow, walked[victim]
    document = Document(url, site.embedded.token("admin"))
    headers = {"Authorization": f"Bearer {site.embedded.token(login)}"} if login else {}
    assert document.misfits(ids) == []
    before, started = _state(site, ids), time.monotonic()
    calls = walk(url, document.jobs(ids, all_methods=(login, victim) == WALKS[0]), headers=headers)
    known = [call for call in calls if call.status not in (404, 405)]
    reached = {call.template for call in calls}
    print(
        f"{login} against {victim}: {len(reached)} endpoints of {len(document.endpoints)} "
        f"({len(reached) / len(document.endpoints):.0%}), {len(calls)} calls, {time.monotonic() - started:.0f} s; "
        + unread(calls, 422)
    )
    assert reached == set(document.endpoints)
    assert len(reached) > 110
    assert [call for call in known if call.status >= 500] == []
    # What was asked may stand in a refusal's words; an answer of success names nothing foreign.
    shown = [(call, _shown(call, login)) for call in known if call.status < 300]
    assert [(one.method, one.template, text[:2000]) for one, text in shown if _foreign(text, victim)] == []
    assert [*_changes("", before, _state(site, ids))] == []


@pytest.mark.usefixtures("walked")
def test_lists_have_the_totals_of_the_own_rows(site: Site) -> None:
    for path, name in (
        ("assets", "assets"), ("assets/events", "asset_events"), ("importErrors", "import_errors"),
        ("assets/aliases", "asset_aliases"), ("eventLogs", "event_logs"),
    ):  # fmt: skip
        found = site.get(f"/api/v2/{path}?limit=100", "support").json()
        assert found["total_entries"] == len(found[name]) or len(found[name]) == 100, path
    assert "walked_fraud_asset" in site.get("/api/v2/assets", "fraud").text
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

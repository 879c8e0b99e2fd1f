"""Attacks by people: an operator of one team against another, with every endpoint of the REST API, and with other tokens."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from tests.e2e.attacks.conftest import Hostile, admin
from tests.e2e.attacks.ledger import Ledger, Line
from tests.e2e.attacks.people import BROKEN, MARKS, forged, make_rows, rows, shown
from tests.e2e.installation import Airflow, Installation
from tests.rigs.rest_walk import Document
from tests.rigs.walk import walk

PERSON = "sue"  # an operator of support
GUARD, MANAGER = "people's guard", "auth manager"
DAG = "/dags/{dag_id}"
RUN = f"{DAG}/dagRuns/{{dag_run_id}}"
TASK = f"{RUN}/taskInstances/{{task_id}}"
REQUESTS: list[tuple[str, str, str, Any]] = [
    ("see a DAG of another team", "GET", DAG, None),
    ("start a DAG of another team", "POST", f"{DAG}/dagRuns", {"logical_date": None, "conf": {"gate": "f1_macro >= 0"}}),
    ("pause a DAG of another team", "PATCH", DAG, {"is_paused": True}),
    ("delete a DAG of another team", "DELETE", DAG, None),
    ("read a DAG's code of another team", "GET", "/dagSources/{dag_id}", None),
    ("fail a run of another team", "PATCH", RUN, {"state": "failed"}),
    ("delete a run of another team", "DELETE", RUN, None),
    ("clear tasks of another team", "POST", f"{DAG}/clearTaskInstances", {"dry_run": False, "dag_run_id": "{dag_run_id}"}),
    ("read an XCom of another team", "GET", f"{TASK}/xcomEntries/{{xcom_key}}", None),
    ("read a log of another team", "GET", f"{TASK}/logs/1", None),
    ("start a backfill of another team", "POST", "/backfills", {
        "dag_id": "{dag_id}", "from_date": "2026-01-01T00:00:00Z", "to_date": "2026-01-02T00:00:00Z",
    }),
    ("answer a question of another team", "PATCH", f"{RUN}/taskInstances/walked_asks/-1/hitlDetails", {"chosen_options": ["Approve"]}),
    ("read a question of another team", "GET", f"{RUN}/taskInstances/walked_asks/-1/hitlDetails", None),
    ("read a variable of another team", "GET", "/variables/{variable_key}", None),
    ("change a variable of another team", "PATCH", "/variables/{variable_key}", {"key": "{variable_key}", "value": "attacked"}),
    ("delete a variable of another team", "DELETE", "/variables/{variable_key}", None),
    ("take a variable's name of another team", "POST", "/variables", {"key": "fraud__squat", "value": "1"}),
    ("read a connection of another team", "GET", "/connections/{connection_id}", None),
    ("delete a connection of another team", "DELETE", "/connections/{connection_id}", None),
    ("take a connection's name of another team", "POST", "/connections", {"connection_id": "fraud__squat", "conn_type": "http"}),
    ("make a pool", "POST", "/pools", {"name": "fraud__squat", "slots": 1, "include_deferred": False}),
    ("enlarge one's own pool", "PATCH", "/pools/support__default", {"slots": 1000, "pool": "support__default"}),
    ("delete a pool of another team", "DELETE", "/pools/{pool_name}", None),
    ("report an event of an asset of another team", "POST", "/assets/events", {"asset_id": "{asset_id}"}),
    ("see an asset of another team", "GET", "/assets/{asset_id}", None),
    ("materialize an asset of another team", "POST", "/assets/{asset_id}/materialize", {}),
    ("read an import error of another team", "GET", "/importErrors/{import_error_id}", None),
    ("read an audit row of another team", "GET", "/eventLogs/{event_log_id}", None),
    ("read the configuration", "GET", "/config", None),
    ("list the jobs", "GET", "/jobs", None),
    ("list the providers", "GET", "/providers", None),
    ("make default connections", "POST", "/connections/defaults", None),
    ("see reports of another team", "GET", "/kommuna/dags/{dag_id}/manifests/x", None),
    ("see reports of a DAG that does not exist", "GET", "/kommuna/dags/fraud__nosuch/manifests/x", None),
]  # fmt: skip


@pytest.fixture(scope="module")
def ids(hostile: Hostile, airflow: Airflow) -> Iterator[dict[str, Any]]:
    """Ids of rows of the team that is attacked, of every kind."""
    with hostile.files("fraud", BROKEN):
        yield make_rows(admin(airflow))


@pytest.fixture(scope="module")
def sue(installation: Installation) -> Airflow:
    return installation.airflow(PERSON)


def filled(body: Any, ids: Mapping[str, Any]) -> Any:
    """Puts ids into a body: a value that is a name in braces becomes the id itself."""
    if not isinstance(body, dict):
        return body
    return {
        key: ids.get(str(value).strip("{}"), value) if str(value).startswith("{") else value
        for key, value in body.items()
    }


def send(person: Airflow, method: str, path: str, **options: Any) -> requests.Response:
    """Sends a request once, whatever the answer."""
    headers = {"Authorization": f"Bearer {person.token}", **options.pop("headers", {})}
    place = path if path.startswith("/kommuna/") else f"/api/v2{path}"
    return requests.request(
        method, f"{person.url}{place}", headers=headers, timeout=60, allow_redirects=False, **options
    )


def ask(person: Airflow, ids: Mapping[str, Any]) -> list[Line]:
    """Sends every request; a line each."""
    lines = []
    for what, method, path, body in REQUESTS:
        sent = {} if body is None else {"json": filled(body, ids)}
        answer = send(person, method, path.format(**ids), **sent)
        refused = answer.status_code in (403, 404)
        lines.append(Line(what, "person", GUARD, refused, f"{answer.status_code} {answer.text[-250:]}"))
    return lines


def test_an_operator_of_another_team_is_refused(sue: Airflow, ids: dict[str, Any], ledger: Ledger) -> None:
    ledger.add(*ask(sue, ids))


def test_a_request_from_another_sites_page_is_refused(sue: Airflow, ledger: Ledger) -> None:
    body = {"key": "support__elsewhere", "value": "1"}
    answer = send(sue, "POST", "/variables", json=body, headers={"Origin": "https://evil.example"})
    refused = answer.status_code == 403 and "another site" in answer.text
    ledger.add(
        Line("a page of another site writes", "person", GUARD, refused, f"{answer.status_code} {answer.text[-250:]}")
    )


def test_forged_and_foreign_tokens_are_refused(installation: Installation, sue: Airflow, ledger: Ledger) -> None:
    secret = installation.cluster.secret("kommuna-keys", "jwt")
    lines = []
    for what, token in forged(sue.token, secret):
        answer = requests.get(f"{sue.url}/api/v2/dags", headers={"Authorization": f"Bearer {token}"}, timeout=60)
        refused = answer.status_code in (401, 403)
        lines.append(Line(what, "person", MANAGER, refused, f"{answer.status_code} {answer.text[-250:]}"))
    nobody = requests.get(f"{sue.url}/api/v2/dags", timeout=60)
    lines.append(Line("a request without a token", "person", MANAGER, nobody.status_code == 401, nobody.text[-250:]))
    ledger.add(*lines)


@pytest.mark.parametrize("login", [PERSON, None])
def test_a_walk_of_every_endpoint_finds_and_changes_nothing_of_another_team(
    sue: Airflow, airflow: Airflow, ids: dict[str, Any], ledger: Ledger, login: str | None
) -> None:
    document = Document(sue.url, airflow.token)
    before, started = rows(admin(airflow)), time.monotonic()
    headers = {"Authorization": f"Bearer {sue.token}"} if login else {}
    with paused_as_before(airflow):
        calls = walk(sue.url, document.jobs(ids, all_methods=False), headers=headers)
    seconds = time.monotonic() - started
    faults = [call for call in calls if call.status >= 500]
    found = [call for call in calls if call.status < 300 and any(mark in shown(call, login) for mark in MARKS)]
    changed = rows(admin(airflow)) != before
    evidence = f"{len(document.endpoints)} endpoints, {len(calls)} calls, {seconds:.0f} s, {len(found)} leaks, changed: {changed}"
    evidence += "".join(f"; {call.method} {call.template}: {shown(call, login)[:300]}" for call in found)
    refused = not found and not changed
    ledger.add(Line(f"every endpoint of the REST API, as {login or 'nobody'}", "person", GUARD, refused, evidence))
    assert {call.template for call in calls} == set(document.endpoints)
    assert faults == []


@contextmanager
def paused_as_before(airflow: Airflow) -> Iterator[None]:
    """Restores what a walk may do to the DAGs of the walker's own team: `PATCH /dags` names no team."""
    before = {dag["dag_id"]: dag["is_paused"] for dag in airflow.get("/dags", limit=500)["dags"]}
    yield
    for dag in airflow.get("/dags", limit=500)["dags"]:
        paused = before.get(dag["dag_id"], dag["is_paused"])
        if dag["is_paused"] != paused:
            airflow.call("PATCH", f"/dags/{dag['dag_id']}", json={"is_paused": paused})

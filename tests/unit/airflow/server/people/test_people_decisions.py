"""What the rules for people refuse, and the limit of failed sign-ins."""

from __future__ import annotations

from typing import Any

import pytest

from kommuna.airflow.server.people.decisions import PersonFacts, PersonRequest, decide
from kommuna.airflow.server.people.persons import Person
from kommuna.airflow.server.people.routes import find
from kommuna.airflow.server.people.sign_in import PER_LOGIN_AND_ADDRESS, WINDOW_SECONDS, SignIns

TEAMS, OWN = frozenset({"support", "fraud"}), frozenset({"support"})
SUE = Person("sue", OWN, OWN, TEAMS, platform=False)
BOTH = Person("bob", TEAMS, OWN, TEAMS, platform=False)  # a viewer in the other team
ADMIN = Person("admin", TEAMS, TEAMS, TEAMS, platform=True)
DAGS = {"support__a": "support", "fraud__a": "fraud", "fraud__nosuch": None}


def status(method: str, path: str, who: Person = SUE, body: Any = None, **facts: Any) -> int:
    """Returns the status of a refusal; 0 if the request is allowed."""
    found = find(method, path.partition("?")[0])
    assert found is not None, path
    query = {"dag_id": [path.partition("dag_id=")[2]]} if "dag_id=" in path else {}
    request = PersonRequest(*found, query, body)
    refusal = decide(request, who, PersonFacts({one: DAGS.get(one) for one in request.dags()}, **facts))
    return refusal.status if refusal else 0


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("GET", "/api/v2/dags/support__a", None, 0),
        ("GET", "/api/v2/dags/fraud__a", None, 404),
        ("GET", "/api/v2/dags/fraud__nosuch", None, 404),
        ("GET", f"/kommuna/dags/fraud__nosuch/manifests/{'0' * 64}", None, 404),
        ("GET", "/api/v2/dags/~/details", None, 403),
        ("GET", "/api/v2/dags/~/dagRuns", None, 0),
        ("GET", "/api/v2/dagWarnings?dag_id=fraud__a", None, 404),
        ("POST", "/api/v2/backfills", {"dag_id": "fraud__a"}, 404),
        ("POST", "/api/v2/dags/support__a/dagRuns", {"conf": {"dag_id": "fraud__a"}}, 0),
        ("PATCH", "/api/v2/dags/~/dagRuns", {"actions": [{"entities": [{"dag_id": "fraud__a"}]}]}, 404),
        ("POST", "/api/v2/dags/~/clearDagRuns", {"dag_runs": [{"dag_id": "fraud__nosuch"}]}, 404),
        ("POST", "/api/v2/dags/~/dagRuns/list", {"dag_ids": ["fraud__a"]}, 404),
        ("GET", "/api/v2/variables/fraud__nosuch", None, 403),
        ("POST", "/api/v2/pools", {"name": "support__wide", "slots": 9}, 403),
        ("PATCH", "/api/v2/pools/support__default", {"slots": 9}, 403),
        ("GET", "/api/v2/jobs", None, 403),
        ("GET", "/api/v2/providers", None, 403),
        ("GET", "/api/v2/config", None, 403),
    ],
)
def test_a_team_reaches_its_own_only(method: str, path: str, body: Any, expected: int) -> None:
    assert status(method, path, body=body) == expected
    assert status(method, path, ADMIN, body) == 0


def test_another_teams_dag_is_answered_as_one_that_does_not_exist() -> None:
    answers = []
    for dag in ("fraud__a", "fraud__nosuch"):
        row, values = find("GET", f"/api/v2/dags/{dag}")  # type: ignore[misc]
        refusal = decide(PersonRequest(row, values, {}, None), SUE, PersonFacts({dag: DAGS[dag]}))
        assert refusal is not None
        answers.append((refusal.status, refusal.why.replace(dag, "")))
    assert answers[0] == answers[1]


def test_assets_belong_to_the_team_of_their_prefix() -> None:
    assert status("GET", "/api/v2/assets/1", asset="support__a") == 0
    assert status("GET", "/api/v2/assets/1", asset="fraud__a") == 404
    assert status("GET", "/api/v2/assets/1", asset="fraud__a", published=True) == 0
    assert status("POST", "/api/v2/assets/1/materialize", asset="fraud__a", published=True) == 404
    assert status("POST", "/api/v2/assets/events", body={"asset_id": 1}, asset="fraud__a") == 404
    assert status("POST", "/api/v2/assets/events", body={"asset_id": 1}, asset="support__a") == 0


def test_a_viewer_in_one_team_who_is_an_operator_in_another_changes_nothing_of_the_first() -> None:
    assert status("GET", "/api/v2/assets/1", BOTH, asset="fraud__a") == 0
    for path, body in (("assets/events", {"asset_id": 1}), ("assets/1/materialize", None)):
        assert status("POST", f"/api/v2/{path}", BOTH, body, asset="fraud__a") == 403
        assert status("POST", f"/api/v2/{path}", BOTH, body, asset="support__a") == 0
    assert status("DELETE", "/api/v2/dags/fraud__a/assets/queuedEvents", BOTH) == 403
    assert status("DELETE", "/api/v2/dags/support__a/assets/queuedEvents", BOTH) == 0
    assert status("DELETE", "/api/v2/dags/~/assets/queuedEvents", BOTH) == 403


def test_a_member_of_every_team_is_not_the_platform() -> None:
    assert status("POST", "/api/v2/pools", BOTH, {"name": "fraud__wide", "slots": 9}) == 403


def test_nobody_makes_the_default_connections() -> None:
    assert status("POST", "/api/v2/connections/defaults", ADMIN) == 403


def test_failed_sign_ins_are_limited_for_a_while_and_for_their_sender() -> None:
    now = [0.0]
    sign_ins = SignIns(lambda: now[0])
    for _ in range(PER_LOGIN_AND_ADDRESS):
        assert sign_ins.wait("10.0.0.1", "sue") == 0
        sign_ins.failed("10.0.0.1", "sue")
    assert 0 < sign_ins.wait("10.0.0.1", "sue") <= WINDOW_SECONDS + 1
    assert sign_ins.wait("10.0.0.2", "sue") == sign_ins.wait("10.0.0.1", "bob") == 0
    now[0] += WINDOW_SECONDS
    assert sign_ins.wait("10.0.0.1", "sue") == 0


def test_the_limit_keeps_few_names() -> None:
    sign_ins = SignIns()
    for n in range(20_000):
        sign_ins.failed(f"a{n}", f"u{n}")
    assert len(sign_ins._failures) <= 10_000

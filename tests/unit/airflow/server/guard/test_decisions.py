"""What the guard decides, by plain facts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from kommuna.airflow.server.guard.decisions import decider, subjects
from kommuna.airflow.server.guard.facts import Facts, Instance, Refusal, Subjects, TaskRequest, Token
from kommuna.airflow.server.guard.routes import TABLE, Check, find

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
OWN, OTHER = UUID(int=1), UUID(int=2)
QUEUED = NOW - timedelta(minutes=5)
RUNS = Instance("support__a", "run", "t", -1, 1, "running", QUEUED, NOW, "support")
TEAMS = frozenset({"support", "fraud"})
DATE_TIME = "airflow.providers.standard.triggers.temporal.DateTimeTrigger"
decide = decider(timedelta(seconds=25))


def instance(**changes: Any) -> Instance:
    """The running instance with other values."""
    return Instance(**{**vars(RUNS), **changes})


def ask(
    method: str,
    path: str,
    *,
    body: Any = None,
    token: Token = Token(OWN, "execution", int(NOW.timestamp())),  # noqa: B008  # frozen
    instance: Instance | None = RUNS,
    **facts: Any,
) -> Refusal | None:
    """Decides a request as the middleware does."""
    path, _, query = path.partition("?")
    found = find(method, path)
    assert found is not None, path
    values: dict[str, list[str]] = {}
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        values.setdefault(name, []).append(value)
    request = TaskRequest(found[0], found[1], values, token, NOW, body)
    known = {"teams": TEAMS, "owners": {"support__a": "support", "support__b": "support", "fraud__a": "fraud"}}
    return decide(request, Facts(instance, **(known | facts)))


def why(*arguments: Any, **options: Any) -> str:
    """Why a request is refused."""
    refusal = ask(*arguments, **options)
    assert refusal is not None
    return refusal.why


@pytest.mark.parametrize("route", [route for route in TABLE if route.check is not Check.PUBLIC], ids=str)
def test_no_route_is_open_to_the_token_of_a_deleted_instance_or_of_one_without_a_team(route: Any) -> None:
    path = {name: str(OWN) for name in ("task_instance_id",)} | {"connection_test_id": str(OTHER)}
    values = {name: path.get(name, "support__a") for name in route._pattern.groupindex}
    query = {"dag_id": ["support__a"], "name": ["support__x"], "alias_name": ["support__x"]}
    for found in (None, instance(team=None)):
        request = TaskRequest(route, values, query, Token(OWN, "execution", 0), NOW, {"state": "success"})
        refused = decide(request, Facts(found, TEAMS, {"support__a": "support"}))
        # Airflow answers a heartbeat of an instance that does not exist with 404 or 410, and its client acts on that.
        assert (refused is None) == (route.check is Check.HEARTBEAT)


@pytest.mark.parametrize("route", [route for route in TABLE if "task_instance_id" in route.path], ids=str)
def test_a_route_of_an_instance_is_open_to_its_own_token_only(route: Any) -> None:
    values = {"task_instance_id": str(OTHER), "key": "k"}
    assert decide(TaskRequest(route, values, {}, Token(OWN, "execution", 0), NOW, None), Facts(RUNS, TEAMS))


@pytest.mark.parametrize(
    ("method", "name", "allowed"),
    [
        ("GET", "variables/support__x", True),
        ("GET", "variables/everybodys", True),
        ("GET", "variables/my__x", True),  # `my` is not a team
        ("GET", "variables/fraud__x", False),
        ("GET", "connections/fraud__x", False),
        ("GET", "connections/FRAUD__x", False),
        ("GET", "variables/Fraud__x", False),
        ("GET", "variables/SUPPORT__x", True),
        ("GET", "connections/support__x", True),
        ("PUT", "variables/support__x", True),
        ("PUT", "variables/everybodys", False),
        ("PUT", "variables/my__x", False),
        ("PUT", "variables/fraud__squat", False),
        ("DELETE", "variables/fraud__x", False),
        ("DELETE", "variables/support__x", True),
        ("GET", "variables/keys", True),
    ],
)
def test_a_name_belongs_to_the_team_of_its_prefix(method: str, name: str, allowed: bool) -> None:
    assert (ask(method, f"/{name}") is None) == allowed


def test_a_foreign_name_is_read_as_missing() -> None:
    assert ask("GET", "/variables/fraud__x") == Refusal(
        "'fraud__x' belongs to team 'fraud', not to 'support'", 404, {"reason": "not_found"}
    )


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/dag-runs/support__b/r", True),
        ("POST", "/dag-runs/fraud__a/r", False),
        ("POST", "/dag-runs/fraud__a/r/clear", False),
        ("GET", "/dag-runs/support__nosuch/r", False),
        ("GET", "/dag-runs/count?dag_id=support__b", True),
        ("GET", "/dag-runs/count?dag_id=fraud__a&dag_id=support__b", False),
        ("GET", "/dag-runs/count", False),
        ("GET", "/task-instances/states?dag_id=fraud__a", False),
        ("GET", "/xcoms/support__b/r/t/k", True),
        ("POST", "/xcoms/fraud__a/r/t/k", False),
    ],
)
def test_a_dag_belongs_to_the_team_of_its_bundle(method: str, path: str, allowed: bool) -> None:
    assert (ask(method, path) is None) == allowed


def test_an_id_with_the_own_prefix_is_not_enough() -> None:
    assert ask("GET", "/dags/support__b", owners={"support__b": "fraud"})
    assert ask("GET", "/dags/anything", owners={"anything": "support"}) is None


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/assets/by-name?name=support__x", True),
        ("/assets/by-name?name=fraud__x", False),
        ("/assets/by-name?name=fraud__published", True),
        ("/assets/by-name", False),
        ("/assets/by-uri?uri=s3://fraud/x", False),
        ("/assets/by-uri?uri=s3://fraud/x&name=support__x", False),
        ("/assets/by-uri?uri=s3://nowhere", False),
        ("/asset-events/by-asset?name=support__x&uri=s3://nowhere", True),
        ("/asset-events/by-asset?name=&uri=s3://support/x", True),
        ("/store/asset/by-name/value?name=support__x&key=k", True),
        ("/store/asset/by-name/value?name=fraud__published&key=k", False),
    ],
)
def test_an_asset_belongs_to_the_team_of_its_name(path: str, allowed: bool) -> None:
    at = {"s3://fraud/x": frozenset({"fraud__x"}), "s3://support/x": frozenset({"support__x"})}
    found = ask("GET", path, assets_at=at, published=frozenset({"fraud__published"}))
    assert (found is None) == allowed


def test_a_token_starts_an_instance_once() -> None:
    path = f"/task-instances/{OWN}/run"
    fresh, stale = (Token(OWN, "workload", int(at.timestamp())) for at in (QUEUED, QUEUED - timedelta(seconds=2)))
    assert ask("PATCH", path, token=fresh, instance=instance(state="queued")) is None
    assert "earlier start" in why("PATCH", path, token=stale, instance=instance(state="queued"))
    assert ask("PATCH", path, token=fresh) is None  # a repeated request of the same process
    assert "its executor does" in why("PATCH", path, instance=instance(state="queued"))
    for state in ("success", "failed", "deferred", "scheduled", None):
        refused = ask("PATCH", path, token=fresh, instance=instance(state=state))
        assert refused
        assert refused.status == 409
    assert ask("PATCH", path, token=fresh, instance=instance(state="queued", queued=None))


def test_the_token_of_an_executor_does_nothing_else() -> None:
    token = Token(OWN, "workload", int(NOW.timestamp()))
    assert "only starts a task" in why("GET", "/variables/keys", token=token)
    assert ask("PUT", f"/task-instances/{OWN}/heartbeat", token=token)


def test_after_its_end_a_task_has_the_time_of_its_callbacks() -> None:
    for seconds, allowed in ((24, True), (26, False)):
        ended = instance(state="success", changed=NOW - timedelta(seconds=seconds))
        assert (ask("PUT", "/variables/support__x", instance=ended) is None) == allowed
        assert ask("PATCH", f"/task-instances/{OWN}/rendered-map-index", instance=ended)
        assert ask("POST", f"/hitlDetails/{OWN}", instance=ended)


def test_a_repeated_report_is_answered_and_another_one_is_not() -> None:
    ended = instance(state="success", changed=NOW - timedelta(hours=1))
    report = {"state": "success", "end_date": NOW.isoformat()}
    path = f"/task-instances/{OWN}/state"
    assert ask("PATCH", path, body=report, instance=ended) is None
    refused = ask("PATCH", path, body=report | {"state": "failed"}, instance=ended)
    assert refused
    assert refused.details == {"reason": "invalid_state", "previous_state": "success"}


def test_a_task_does_not_answer_its_own_question() -> None:
    assert "a person does" in why("PATCH", f"/hitlDetails/{OWN}", body={"chosen_options": ["Approve"]})
    assert ask("POST", f"/hitlDetails/{OWN}") is None


def test_a_connection_test_is_open_to_its_own_token() -> None:
    path = f"/connection-tests/{OWN}/connection"
    assert ask("GET", path, token=Token(OWN, "workload", 0), instance=None) is None
    assert ask("GET", path, token=Token(OTHER, "workload", 0))
    assert ask("GET", path)


CALLBACK = {"x": {"__classname__": "airflow.sdk.definitions.callback.AsyncCallback", "__version__": 0, "__data__": {}}}
MOMENT = {
    "__classname__": "pendulum.datetime.DateTime",
    "__version__": 2,
    "__data__": {"timestamp": NOW.timestamp() + 60, "tz": "UTC"},
}
WAIT = {"state": "deferred", "classpath": DATE_TIME, "trigger_kwargs": {"moment": MOMENT}, "next_method": "resume"}
END = {"state": "success", "end_date": "2026-06-01T12:00:00Z"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (WAIT, ""),
        (WAIT | {"next_kwargs": {"a": 1}}, ""),
        (WAIT | {"classpath": "subprocess.Popen"}, "the platform does not run the trigger subprocess.Popen"),
        (WAIT | {"trigger_kwargs": {"moment": MOMENT, "x": 1}}, "unknown key 'x'"),
        (WAIT | {"trigger_kwargs": "gAAAAAB"}, "they are not JSON"),
        (WAIT | {"next_kwargs": CALLBACK}, "AsyncCallback"),
        (WAIT | {"next_kwargs": {"a": "x" * 70_000}}, "70,009"),
        (WAIT | {"next_kwargs": "gAAAAAB"}, "not a JSON object"),
        ({"state": "awaiting_input", "next_method": "x", "next_kwargs": {"a": 1}}, ""),
        ({"state": "awaiting_input", "next_method": "x", "next_kwargs": CALLBACK}, "AsyncCallback"),
        (END, ""),
        ({"state": "running"}, 'the state "running"'),
        ({"state": "scheduled"}, "does not report"),
        ({"state": ["x"]}, "does not report"),
        (None, "does not report"),
        ([], "does not report"),
        (END | {"end_date": "9999-12-31T00:00:00Z"}, "end_date: keep it within"),
        (END | {"end_date": 1e12}, "end_date"),
        (END | {"end_date": "soon"}, "with a time zone"),
        ({"state": "up_for_retry", "end_date": END["end_date"], "retry_delay_seconds": 60}, ""),
        ({"state": "up_for_retry", "end_date": END["end_date"], "retry_delay_seconds": 1e300}, "retry_delay_seconds"),
        ({"state": "up_for_retry", "retry_delay_seconds": float("nan")}, "retry_delay_seconds"),
        ({"state": "up_for_reschedule", "end_date": END["end_date"], "reschedule_date": "9999-01-01T00:00:00Z"}, "resch"),
        (END | {"task_outlets": [{"name": "support__x", "uri": "support__x", "type": "Asset"}]}, ""),
        (END | {"task_outlets": [{"name": "fraud__x", "uri": "fraud__x", "type": "Asset"}]}, "asset 'fraud__x' does not"),
        (END | {"task_outlets": [{"name": "fraud__x", "type": "AssetNameRef"}]}, "does not belong"),
        (END | {"task_outlets": [{"name": "fraud__x", "type": "AssetAlias"}]}, "asset alias 'fraud__x'"),
        (END | {"task_outlets": [{"uri": "s3://fraud/x", "type": "AssetUriRef"}]}, "the asset at 's3://fraud/x'"),
        (END | {"task_outlets": [{"uri": "s3://support/x", "type": "AssetUriRef"}]}, ""),
        (END | {"task_outlets": [{"name": "support__x", "type": "Other"}]}, "not a kind of asset"),
        (END | {"task_outlets": "x"}, "not a list"),
        (END | {"outlet_events": [{"dest_asset_key": {"name": "fraud__x", "uri": "x"}, "extra": {}}]}, "does not belong"),
        (END | {"outlet_events": [{"extra": {}}]}, "'dest_asset_key' is missing"),
        (
            END | {"outlet_events": [{"source_alias_name": "support__a", "dest_asset_key": {"name": "support__x", "uri": "s3://fraud/x"}}]},
            "has the address 's3://fraud/x'",
        ),
        (
            END | {"outlet_events": [{"source_alias_name": "support__a", "dest_asset_key": {"name": "support__x", "uri": "support__x"}}]},
            "",
        ),
    ],
)  # fmt: skip
def test_what_a_report_carries_is_judged(body: Any, said: str) -> None:
    at = {"s3://fraud/x": frozenset({"fraud__x"}), "s3://support/x": frozenset({"support__x"})}
    refused = ask("PATCH", f"/task-instances/{OWN}/state", body=body, assets_at=at)
    assert (said in refused.why) if refused and said else (refused is None and not said), refused


@pytest.mark.parametrize(
    ("body", "allowed"),
    [
        ({"conf": {"a": 1}, "logical_date": "2015-01-01T00:00:00Z"}, True),
        ({"logical_date": "0001-01-01T00:00:00Z"}, False),
        ({"run_after": "9999-01-01T00:00:00Z"}, False),
        (None, True),
        ([], False),
    ],
)
def test_the_dates_of_a_new_run_are_bounded(body: Any, allowed: bool) -> None:
    assert (ask("POST", "/dag-runs/support__b/r", body=body) is None) == allowed


def test_the_subjects_of_a_request_are_what_its_decision_needs() -> None:
    def of(method: str, path: str, body: Any = None, **query: list[str]) -> Subjects:
        found = find(method, path)
        assert found is not None
        return subjects(TaskRequest(*found, query, Token(OWN, "execution", 0), NOW, body))

    assert of("GET", "/dag-runs/count", dag_id=["a", "b"]) == Subjects(dags=frozenset("ab"))
    assert of("GET", "/asset-events/by-asset", name=["n"], uri=["u"]) == Subjects(
        assets=frozenset("n"), addresses=frozenset("u")
    )
    outlets = {"task_outlets": [{"uri": "u", "type": "AssetUriRef"}, {"uri": "v", "type": "Asset"}, 3]}
    assert of("PATCH", f"/task-instances/{OWN}/state", outlets) == Subjects(addresses=frozenset("u"))
    assert of("GET", "/variables/x") == Subjects()

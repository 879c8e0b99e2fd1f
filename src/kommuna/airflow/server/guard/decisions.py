"""Decides whether a task's request is allowed: pure functions of the request and of what the database says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from uuid import UUID

from kommuna.airflow.server.guard import bodies
from kommuna.airflow.server.guard.facts import QUEUED, RUNNING, Decide, Facts, Instance, Refusal, Subjects, TaskRequest
from kommuna.airflow.server.guard.routes import Check
from kommuna.spec.names import SEPARATOR, owner_of

WORKLOAD = "workload"
_BY_NAME = ("name", "alias_name")  # an asset's name in a query
_GONE = Refusal("the task instance does not exist, or its DAG belongs to no team", 404, {"reason": "not_found"})


def decider(overtime: timedelta) -> Decide:
    """Makes the guard's decision function.

    Args:
        overtime: how long a task's process may use the API after it has reported its end.
    """

    def decide(request: TaskRequest, facts: Facts) -> Refusal | None:
        check = request.route.check
        if check in _WITHOUT_INSTANCE:
            return _WITHOUT_INSTANCE[check](request)
        if "task_instance_id" in request.path and not _is_own(request, "task_instance_id"):
            return Refusal("the token belongs to another task instance")
        if check is Check.HEARTBEAT:
            return _scope(request)
        instance = facts.instance
        if instance is None or instance.team is None:
            return _GONE
        if check is Check.START:
            return _start(request, instance)
        return _scope(request) or _time(request, instance, overtime) or _CHECKS[check](request, facts, instance.team)

    return decide


def subjects(request: TaskRequest) -> Subjects:
    """Returns the DAGs and assets that a request names, whose owners its decision needs."""
    check = request.route.check
    if check in (Check.DAG, Check.TRIGGER):
        return Subjects(dags=frozenset(request.named("dag_id")))
    if check in (Check.READ_ASSET, Check.OWN_ASSET):
        names = frozenset(name for key in _BY_NAME for name in request.named(key))
        return Subjects(assets=names, addresses=frozenset(request.named("uri")))
    if check is Check.STATE:
        return Subjects(addresses=bodies.addresses(request.body))
    return Subjects()


def _connection_test(request: TaskRequest) -> Refusal | None:
    if request.token.scope == WORKLOAD and _is_own(request, "connection_test_id"):
        return None
    return Refusal("the token belongs to no connection test, or to another")


def _unknown(request: TaskRequest) -> Refusal | None:
    return Refusal("the platform knows no such route")


def _never(request: TaskRequest) -> Refusal | None:
    return Refusal("a task does not answer its own question: a person does, in Airflow's pages")


_WITHOUT_INSTANCE: Mapping[Check, Callable[[TaskRequest], Refusal | None]] = {
    Check.UNKNOWN: _unknown,
    Check.PUBLIC: lambda request: None,
    Check.CONNECTION_TEST: _connection_test,
    Check.NEVER: _never,
}


def _is_own(request: TaskRequest, name: str) -> bool:
    try:
        return UUID(request.path[name]) == request.token.subject
    except ValueError:
        return False


def _scope(request: TaskRequest) -> Refusal | None:
    if request.token.scope == WORKLOAD:
        return Refusal("this token only starts a task: use the one from the answer to `run`")
    return None


def _start(request: TaskRequest, instance: Instance) -> Refusal | None:
    """An executor starts an instance once, by the token that the scheduler made after it queued it.

    Airflow itself answers a second request of the same process for the running instance, so this one may repeat it.
    """
    if request.token.scope != WORKLOAD:
        return Refusal("a task does not start itself: its executor does")
    if instance.state not in (QUEUED, RUNNING):
        return _not_running(instance)
    if instance.queued is None or request.token.issued < int(instance.queued.timestamp()):
        return Refusal("this token was made for an earlier start of the task instance")
    return None


def _time(request: TaskRequest, instance: Instance, overtime: timedelta) -> Refusal | None:
    if instance.state == RUNNING:
        return None
    if request.route.check is Check.STATE:
        # A repeated report changes nothing: the client did not get the first answer.
        repeated = isinstance(request.body, dict) and request.body.get("state") == instance.state
        return None if repeated else _not_running(instance)
    if request.route.while_running or instance.changed is None or request.now - instance.changed > overtime:
        return _not_running(instance)
    return None


def _not_running(instance: Instance) -> Refusal:
    details = {"reason": "invalid_state", "previous_state": instance.state}
    return Refusal(f"the task instance is not running, but {instance.state or 'without a state'}", 409, details)


def _dag(request: TaskRequest, facts: Facts, team: str) -> Refusal | None:
    names = request.named("dag_id")
    if not names:
        return Refusal("the request names no DAG")
    for name in names:
        if facts.owners.get(name) != team:
            return Refusal(f"the DAG '{name}' does not belong to team '{team}'")
    return None


def _trigger(request: TaskRequest, facts: Facts, team: str) -> Refusal | None:
    refusal = _dag(request, facts, team)
    if refusal is not None:
        return refusal
    try:
        bodies.Judge(team, facts, request.now).trigger(request.body)
    except bodies.BodyRefused as refused:
        return Refusal(str(refused))
    return None


def _state(request: TaskRequest, facts: Facts, team: str) -> Refusal | None:
    try:
        bodies.Judge(team, facts, request.now).state(request.body)
    except bodies.BodyRefused as refused:
        return Refusal(str(refused))
    return None


def _name(request: TaskRequest) -> str:
    (name,) = (request.path[key] for key in ("variable_key", "connection_id") if key in request.path)
    return name


def _read_name(request: TaskRequest, facts: Facts, team: str) -> Refusal | None:
    """A foreign name is answered like one that does not exist, so that `Variable.get` returns its default.

    Airflow looks a name up in the server's environment in capitals, so a name in any case is the team's.
    """
    name = _name(request)
    owner = owner_of(name.upper().lower())
    if owner in facts.teams - {team}:
        return Refusal(f"'{name}' belongs to team '{owner}', not to '{team}'", 404, {"reason": "not_found"})
    return None


def _write_name(request: TaskRequest, facts: Facts, team: str) -> Refusal | None:
    name = _name(request)
    if owner_of(name) == team:
        return None
    return Refusal(f"'{name}' does not belong to team '{team}': name it '{team}{SEPARATOR}…'")


def _read_asset(request: TaskRequest, facts: Facts, team: str) -> Refusal | None:
    return _asset(request, facts, team, facts.published)


def _own_asset(request: TaskRequest, facts: Facts, team: str) -> Refusal | None:
    return _asset(request, facts, team, frozenset())


def _asset(request: TaskRequest, facts: Facts, team: str, others: frozenset[str]) -> Refusal | None:
    names = [name for key in _BY_NAME for name in request.named(key)]
    found = {address: facts.assets_at.get(address, frozenset()) for address in request.named("uri")}
    if not names and not found:
        return Refusal("the request names no asset")
    unknown = [] if names else [address for address, at in found.items() if not at]
    foreign = [n for n in (*names, *frozenset().union(*found.values())) if owner_of(n) != team and n not in others]
    for asset in (*unknown, *foreign):
        return Refusal(f"the asset '{asset}' does not belong to team '{team}'")
    return None


def _nothing_more(request: TaskRequest, facts: Facts, team: str) -> Refusal | None:
    return None


_CHECKS: Mapping[Check, Callable[[TaskRequest, Facts, str], Refusal | None]] = {
    Check.INSTANCE: _nothing_more,
    Check.TEAM: _nothing_more,
    Check.STATE: _state,
    Check.DAG: _dag,
    Check.TRIGGER: _trigger,
    Check.READ_NAME: _read_name,
    Check.WRITE_NAME: _write_name,
    Check.READ_ASSET: _read_asset,
    Check.OWN_ASSET: _own_asset,
}

"""The rules: a pure function of a person's request and of what the database says about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kommuna.airflow.server.guard.facts import Refusal
from kommuna.airflow.server.people.persons import Person
from kommuna.airflow.server.people.routes import Need, PeopleRoute
from kommuna.spec.names import owner_of

ANY = "~"  # every DAG, in a path
_NAMES = ("pool_name", "connection_id", "variable_key")
_OF_DAGS = ("dag_id", "dag_ids")
_LISTS = ("actions", "entities", "dag_runs")  # lists in a body whose elements may name DAGs


@dataclass(frozen=True)
class PersonRequest:
    """A request to a route of the table.

    Attributes:
        row: the route.
        path: the values in the path, by name.
        query: the values in the query, by name.
        body: the body as JSON; None if it has none.
    """

    row: PeopleRoute
    path: Mapping[str, str]
    query: Mapping[str, Sequence[str]] = field(default_factory=dict)
    body: Any = None

    def dags(self) -> frozenset[str]:
        """Returns the ids of the DAGs that the request names, without `~`."""
        queried = [value for name in _OF_DAGS for value in self.query.get(name, ())]
        found = {*queried, *_dags_in(self.body), *([self.path["dag_id"]] if "dag_id" in self.path else [])}
        return frozenset(found - {"", ANY})

    def asset(self) -> int | None:
        """Returns the id of the asset that the request names; None if it names none."""
        given = self.path.get("asset_id", self.body.get("asset_id") if isinstance(self.body, dict) else None)
        try:
            return int(given)  # type: ignore[arg-type]  # what is not a number is none
        except (TypeError, ValueError):
            return None


@dataclass(frozen=True)
class PersonFacts:
    """What the database says.

    Attributes:
        owners: the team of each DAG that the request names; None for an unknown DAG.
        asset: the name of the asset that the request names; None if it does not exist.
        published: whether its owner publishes it to a team of the person.
    """

    owners: Mapping[str, str | None] = field(default_factory=dict)
    asset: str | None = None
    published: bool = False


def decide(request: PersonRequest, person: Person, facts: PersonFacts) -> Refusal | None:
    """Returns why a person's request is refused; None if Airflow may judge it further.

    Args:
        request: the request, with its row in the table of routes.
        person: who sends it, with the person's teams and roles.
        facts: what the database says about the DAGs and the asset that it names.
    """
    need = request.row.need
    if need is Need.NEVER:
        return Refusal("this is switched off on the platform: it would create objects that belong to all teams")
    if person.platform:
        return None
    if need is Need.PLATFORM:
        return Refusal("only platform admins may do this")
    if need in (Need.DAG, Need.OPERATED_DAG) and request.path.get("dag_id") == ANY:
        return Refusal("name a DAG")
    for dag_id in sorted(request.dags()):
        team = facts.owners.get(dag_id)
        if team not in person.own_teams:  # the same answer for an unknown DAG: others' ids are not to be found out
            return Refusal(f"no DAG '{dag_id}' in your teams", 404)
        if need is Need.OPERATED_DAG and team not in person.operated:
            return _viewed(team)
    for name in (request.path[key] for key in _NAMES if key in request.path):
        team = owner_of(name)
        if team in person.teams - person.own_teams:
            return Refusal(f"'{name}' belongs to team '{team}'")
    if need in (Need.ASSET, Need.OPERATED_ASSET):
        return _asset(need, person, facts)
    return None


def _asset(need: Need, person: Person, facts: PersonFacts) -> Refusal | None:
    team = None if facts.asset is None else owner_of(facts.asset)
    if team is not None and team in person.own_teams:
        return _viewed(team) if need is Need.OPERATED_ASSET and team not in person.operated else None
    if need is Need.ASSET and facts.published:
        return None
    return Refusal("no such asset of your teams", 404)


def _viewed(team: str) -> Refusal:
    return Refusal(f"you may read what team '{team}' has, and not change it")


def _dags_in(body: Any) -> Iterator[str]:
    """Yields the ids of DAGs where Airflow reads them; a run's `conf` may name what it likes."""
    if not isinstance(body, dict):
        return
    for name in _OF_DAGS:
        given = body.get(name)
        for value in given if isinstance(given, list) else [given]:
            if isinstance(value, str):
                yield value
    for name in _LISTS:
        for element in body[name] if isinstance(body.get(name), list) else ():
            yield from _dags_in(element)

"""Which rows of the database a person's request sees, for tables that Airflow does not filter by team.

Airflow's own queries get one more condition while they answer a request. So a list, its total and its pages agree, and
an object is not found by its id either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from airflow.models.asset import AssetAliasModel, AssetEvent, AssetModel, TaskOutletAssetReference
from airflow.models.connection import Connection
from airflow.models.dag import DagModel
from airflow.models.errors import ParseImportError
from airflow.models.log import Log
from airflow.models.pool import Pool
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.team import dag_bundle_team_association_table as bundle_teams
from airflow.models.variable import Variable
from sqlalchemy import ColumnElement, String, cast, event, or_, select
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria

from kommuna.airflow.server.people.persons import Person
from kommuna.spec.names import SEPARATOR

_options: ContextVar[tuple[Any, ...]] = ContextVar("kommuna_rows", default=())


@contextmanager
def seen_by(person: Person) -> Iterator[None]:
    """Limits what the queries of the current request see. A platform admin sees everything."""
    token = _options.set(() if person.platform else _narrowed(person))
    try:
        yield
    finally:
        _options.reset(token)


def install() -> None:
    """Makes the database sessions of this process heed `seen_by`."""
    if not event.contains(Session, "do_orm_execute", _narrow):
        event.listen(Session, "do_orm_execute", _narrow)


def published_to(teams: Iterable[str]) -> ColumnElement[bool]:
    """Returns the condition that an outlet's owner publishes its asset to one of the teams."""
    consumers = cast(TaskOutletAssetReference.__table__.c.allow_consumer_teams, String)
    return or_(*(consumers.contains(f'"{team}"') for team in sorted(teams)))


def _narrow(state: ORMExecuteState) -> None:
    options = _options.get()
    if options and (state.is_select or state.is_update or state.is_delete):
        state.statement = state.statement.options(*options)


def _narrowed(person: Person) -> tuple[Any, ...]:
    teams, others = sorted(person.own_teams), sorted(person.teams - person.own_teams)
    # Conditions use tables instead of mapped classes: those would be narrowed again.
    assets, outlets, dags = AssetModel.__table__.c, TaskOutletAssetReference.__table__.c, DagModel.__table__.c
    own_bundles = select(bundle_teams.c.dag_bundle_name).where(bundle_teams.c.team_name.in_(teams))
    own_dags = select(dags.dag_id).where(dags.bundle_name.in_(own_bundles))
    published = select(outlets.asset_id).where(published_to(teams))
    visible = select(assets.id).where(or_(_prefixed(assets.name, teams), assets.id.in_(published)))
    return tuple(
        with_loader_criteria(entity, condition, include_aliases=True)
        for entity, condition in (
            (AssetModel, AssetModel.id.in_(visible)),
            (AssetAliasModel, _prefixed(AssetAliasModel.name, teams)),
            (AssetEvent, AssetEvent.asset_id.in_(visible)),
            (SerializedDagModel, SerializedDagModel.dag_id.in_(own_dags)),  # of all, Airflow looks up their assets
            # Airflow's commands write names without a team, which Airflow shows to everybody.
            (Variable, ~_prefixed(Variable.key, others)),
            (Connection, ~_prefixed(Connection.conn_id, others)),
            (Pool, ~_prefixed(Pool.pool, others)),
            (ParseImportError, ParseImportError.bundle_name.in_(own_bundles)),
            (Log, or_(Log.dag_id.in_(own_dags), Log.dag_id.is_(None) & (Log.owner == person.login))),
        )
    )


def _prefixed(column: Any, teams: Iterable[str]) -> ColumnElement[bool]:
    return or_(False, *(column.startswith(f"{team}{SEPARATOR}", autoescape=True) for team in teams))

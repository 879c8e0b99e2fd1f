"""Looks up the facts of a request in Airflow's database: one query for most requests.

A task sends its requests in bursts, so a running instance and the list of teams are remembered for a moment. A request
that changes what an instance may do (its state, a start) never uses what is remembered.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID

from airflow.models.asset import AssetModel, TaskOutletAssetReference
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.team import Team
from airflow.utils.session import create_session_async
from sqlalchemy import or_, select

from kommuna.airflow.server.guard.facts import RUNNING, Facts, Instance, Subjects, Token
from kommuna.airflow.server.guard.routes import Check, Route

INSTANCE_SECONDS = 1.0  # less than a task's process may use the API after its end
TEAMS_SECONDS = 10.0
_WITHOUT_FACTS = (Check.PUBLIC, Check.CONNECTION_TEST, Check.HEARTBEAT)
_FRESH = (Check.START, Check.STATE, Check.TRIGGER)
_MAX_REMEMBERED = 4096  # task instances

_OWNER = (
    select(DagModel.dag_id, Team.name)
    .join(DagBundleModel, DagBundleModel.name == DagModel.bundle_name)
    .join(DagBundleModel.teams)
)
_INSTANCE: Any = (
    select(
        TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id, TaskInstance.map_index,
        TaskInstance.try_number, TaskInstance.state, TaskInstance.queued_dttm, TaskInstance.updated_at, Team.name,
    )
    .outerjoin(DagModel, DagModel.dag_id == TaskInstance.dag_id)
    .outerjoin(DagBundleModel, DagBundleModel.name == DagModel.bundle_name)
    .outerjoin(DagBundleModel.teams)
)  # fmt: skip


class Database:
    """Airflow's database, as the guard reads it."""

    def __init__(self) -> None:
        self._instances: dict[UUID, tuple[float, Instance]] = {}
        self._teams: tuple[float, frozenset[str]] = (float("-inf"), frozenset())

    async def facts(self, route: Route, token: Token, subjects: Subjects) -> Facts:
        """Returns the facts about a request.

        Args:
            route: its route.
            token: its token.
            subjects: the DAGs and assets that it names.
        """
        if route.check in _WITHOUT_FACTS:
            return Facts(None)
        now = time.monotonic()
        remembered = self._instances.get(token.subject)
        instance = None
        if remembered is not None and now - remembered[0] < INSTANCE_SECONDS and route.check not in _FRESH:
            instance = remembered[1]
        known = self._teams[1] if now - self._teams[0] < TEAMS_SECONDS else None
        if instance is not None and known is not None and subjects <= Subjects(dags=frozenset({instance.dag_id})):
            return Facts(instance, known, dict.fromkeys(subjects.dags, instance.team))
        async with create_session_async() as session:
            if known is None:
                known = frozenset(await session.scalars(select(Team.name)))
                self._teams = (now, known)
            if instance is None:
                instance = await _instance(session, token.subject)
                self._remember(token.subject, now, instance)
            return await _facts(session, instance, known, subjects)

    def forget(self, subject: UUID) -> None:
        """Forgets an instance whose state changes."""
        self._instances.pop(subject, None)

    def _remember(self, subject: UUID, now: float, instance: Instance | None) -> None:
        if instance is None or instance.state != RUNNING:
            self.forget(subject)
            return
        if len(self._instances) >= _MAX_REMEMBERED:
            self._instances.clear()
        self._instances[subject] = (now, instance)


async def owners(session: Any, dag_ids: Collection[str]) -> dict[str, str | None]:
    """Returns the team of each DAG; None for an unknown one."""
    found = (await session.execute(_OWNER.where(DagModel.dag_id.in_(dag_ids)))).all()
    return {one: _only(team for dag_id, team in found if dag_id == one) for one in dag_ids}


async def _instance(session: Any, subject: UUID) -> Instance | None:
    rows = (await session.execute(_INSTANCE.where(TaskInstance.id == subject))).all()
    if not rows:
        return None
    columns = list(rows[0])
    columns[-1] = _only(row[-1] for row in rows)
    return Instance(*columns)


async def _facts(session: Any, instance: Instance | None, teams: frozenset[str], subjects: Subjects) -> Facts:
    if instance is None or instance.team is None:
        return Facts(instance, teams)
    known: dict[str, str | None] = dict.fromkeys(subjects.dags & {instance.dag_id}, instance.team)
    others = subjects.dags - set(known)
    if others:
        known |= await owners(session, others)
    if not subjects.assets and not subjects.addresses:
        return Facts(instance, teams, known)
    named = or_(AssetModel.name.in_(subjects.assets), AssetModel.uri.in_(subjects.addresses))
    rows = await session.execute(
        select(AssetModel.name, AssetModel.uri, TaskOutletAssetReference.allow_consumer_teams)
        .outerjoin(TaskOutletAssetReference, TaskOutletAssetReference.asset_id == AssetModel.id)
        .where(named)
    )
    assets_at: dict[str, frozenset[str]] = {}
    published = set()
    for name, uri, consumers in rows:
        assets_at[uri] = assets_at.get(uri, frozenset()) | {name}
        if instance.team in (consumers or ()):
            published.add(name)
    return Facts(instance, teams, known, assets_at, frozenset(published))


def _only(teams: Iterable[str | None]) -> str | None:
    """Returns the team of a bundle. A bundle of several teams belongs to none of them."""
    found = set(teams)
    return found.pop() if len(found) == 1 else None

"""What a decision of the guard is made of: the request, what the database says, and the refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from kommuna.airflow.server.guard.routes import Route

RUNNING = "running"
QUEUED = "queued"


@dataclass(frozen=True)
class Token:
    """The valid token of a request.

    Attributes:
        subject: the id of the task instance (or of the connection test) that it was made for.
        scope: `execution`, or `workload` for the token with which an executor starts a task.
        issued: when it was made, in seconds since 1970.
    """

    subject: UUID
    scope: str
    issued: int


@dataclass(frozen=True)
class TaskRequest:
    """A request to a route of the table.

    Attributes:
        route: the row of the table.
        path: the values in the path, by name.
        query: the values in the query, by name; a name may be repeated.
        token: the token that it came with.
        now: the time, with a time zone.
        body: the body as JSON, for routes whose body is judged.
    """

    route: Route
    path: Mapping[str, str]
    query: Mapping[str, Sequence[str]]
    token: Token
    now: datetime
    body: Any = None

    def named(self, name: str) -> tuple[str, ...]:
        """Returns every value that the path or the query gives for a name; empty values count as missing."""
        if name in self.path:
            return (self.path[name],)
        return tuple(value for value in self.query.get(name, ()) if value)


@dataclass(frozen=True)
class Instance:
    """A task instance that exists.

    Attributes:
        dag_id: its DAG.
        run_id: its run.
        task_id: its task.
        map_index: its index if the task is mapped, else -1.
        try_number: its try.
        state: its state; None before it is scheduled.
        queued: when the scheduler last queued it.
        changed: when its row last changed.
        team: the team that owns the DAG's bundle; None if there is none.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int
    state: str | None
    queued: datetime | None
    changed: datetime | None
    team: str | None


@dataclass(frozen=True)
class Subjects:
    """What a request concerns besides its own instance, by the names that the request gives."""

    dags: frozenset[str] = frozenset()
    assets: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()  # of assets

    def __le__(self, other: Subjects) -> bool:
        """Whether all of them are among others."""
        return self.dags <= other.dags and self.assets <= other.assets and self.addresses <= other.addresses


@dataclass(frozen=True)
class Facts:
    """What the database says.

    Attributes:
        instance: the token's task instance; None if it does not exist (any more).
        teams: every team.
        owners: the team of each DAG that the request concerns; None for an unknown DAG.
        assets_at: the names of the assets at each address that the request concerns.
        published: names of assets of other teams that their owners publish to the instance's team.
    """

    instance: Instance | None
    teams: frozenset[str] = frozenset()
    owners: Mapping[str, str | None] = field(default_factory=dict)
    assets_at: Mapping[str, frozenset[str]] = field(default_factory=dict)
    published: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Refusal:
    """Why a request is refused.

    Attributes:
        why: what is refused and what would be allowed.
        status: the HTTP status. Airflow's client acts on some: 404 for a missing variable, 409 for an ended task.
        details: further fields of the answer.
    """

    why: str
    status: int = 403
    details: Mapping[str, Any] = field(default_factory=dict)


class Decide(Protocol):
    """The guard's one interface: a pure function of a request and the facts about it."""

    def __call__(self, request: TaskRequest, facts: Facts) -> Refusal | None:
        """Returns why the request is refused; None if it is allowed."""

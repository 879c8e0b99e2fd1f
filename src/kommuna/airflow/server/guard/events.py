"""Records refused requests: a structured log event, a row of Airflow's audit log, and a metric."""

from __future__ import annotations

import json
import time
from collections.abc import Hashable, Iterable
from typing import Any
from uuid import UUID

import structlog
from starlette.concurrency import run_in_threadpool

from kommuna.airflow.server.guard.facts import Instance
from kommuna.airflow.server.guard.routes import Route

EVENT = "task_request_refused"
METRIC = "kommuna.task_requests_refused"
PERSON_EVENT = "person_request_refused"
PERSON_METRIC = "kommuna.person_requests_refused"
REPEAT_SECONDS = 60.0  # the audit log has one row for a sender and a route in this time: one may try in a loop
_MAX_WORDS = 1000
log = structlog.get_logger(logger_name=__name__)


class Events:
    """Records refusals."""

    def __init__(self) -> None:
        self._written: dict[tuple[Hashable, Hashable], float] = {}

    async def refused(self, what: str, route: Route, why: str, subject: UUID | None, instance: Instance | None) -> None:
        """Records a refusal.

        Args:
            what: the method and path of the request.
            route: its route.
            why: the reason.
            subject: the id of the task instance that the token was made for; None without a valid token.
            instance: the task instance, if it exists.
        """
        from airflow._shared.observability.metrics import stats

        what, why = _printable(what), _printable(why)
        team = (instance.team if instance else None) or ""
        place = {"dag": instance.dag_id, "run": instance.run_id, "task": instance.task_id} if instance else {}
        log.warning("task_request.refused", team=team, **place, instance=str(subject or ""), what=what, why=why)
        stats.incr(METRIC, tags={"team": team or "none"})
        if subject is not None and self._is_new(subject, route):
            extra = {"team": team, "instance": str(subject), "what": what, "why": why}
            await run_in_threadpool(_write, EVENT, team or None, extra, _place(instance))

    async def person_refused(self, what: str, route: Hashable, why: str, login: str, teams: Iterable[str]) -> None:
        """Records a refusal of a person's request.

        Args:
            what: the method and path of the request.
            route: its route.
            why: the reason.
            login: who sent it.
            teams: the person's teams.
        """
        from airflow._shared.observability.metrics import stats

        what, why = _printable(what), _printable(why)
        of = ", ".join(sorted(teams))
        log.warning("person_request.refused", teams=of, login=login, what=what, why=why)
        stats.incr(PERSON_METRIC)
        if self._is_new(login, route):
            extra = {"teams": of, "login": login, "what": what, "why": why}
            await run_in_threadpool(_write, PERSON_EVENT, login, extra, {})

    def _is_new(self, subject: Hashable, route: Hashable) -> bool:
        now = time.monotonic()
        if len(self._written) > 10_000:
            self._written = {key: at for key, at in self._written.items() if now - at < REPEAT_SECONDS}
        if now - self._written.get((subject, route), float("-inf")) < REPEAT_SECONDS:
            return False
        self._written[subject, route] = now
        return True


def _place(instance: Instance | None) -> dict[str, Any]:
    if instance is None:
        return {}
    names = ("dag_id", "run_id", "task_id", "map_index", "try_number")
    return {name: getattr(instance, name) for name in names}


def _write(event: str, owner: str | None, extra: dict[str, Any], place: dict[str, Any]) -> None:
    """Adds a row to the audit log. A database that refuses it does not turn the refusal into anything else."""
    from airflow.models.log import Log
    from airflow.utils.session import create_session

    try:
        with create_session() as session:
            session.add(Log(event, owner=owner, extra=json.dumps(extra, ensure_ascii=False), **place))
    except Exception:
        log.exception("refusal.not_recorded", what=extra["what"])


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "�" for letter in text[:_MAX_WORDS])

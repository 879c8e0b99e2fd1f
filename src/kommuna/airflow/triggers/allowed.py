"""Checks the trigger of a deferred task against an allowlist, before anything of it is imported or decoded.

A task that defers names a class and its arguments. Airflow's triggerer imports the class and decodes the arguments,
whatever they are. Here both are treated as text. The class must be on the allowlist, and its arguments are parsed into
a model of plain values and written anew from it, so nothing that a task wrote reaches Airflow's decoders.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, StrictBool, StrictStr, StringConstraints

from kommuna.airflow.admission.rules import LONGEST_DELAY, MAX_ID
from kommuna.errors import TeamMistake, nearest
from kommuna.spec.base import Spec
from kommuna.spec.names import owner_of

MAX_ARGUMENTS = 16_000  # characters of a trigger's arguments
MAX_CARRIED = 64_000  # characters of the values that a task keeps while it is deferred
SHORTEST_POLL = 10  # seconds between two polls: each queries the database that all teams share
MAX_NAMES = 100  # runs, tasks or states in one trigger
_PACKAGE = "airflow.providers.standard.triggers"
_CLASS, _VERSION, _DATA = "__classname__", "__version__", "__data__"
_OLD_TYPE, _OLD_DATA = "__type", "__var"
# Tuples, since the value looked up in them may be unhashable.
_DATES = ("datetime.datetime", "pendulum.datetime.DateTime")
_COLLECTIONS = ("builtins.tuple", "builtins.set", "builtins.frozenset")
# Classes that Airflow decodes by calling a constructor of Python's or pendulum's own.
_CARRIED = (
    *_DATES, *_COLLECTIONS, "datetime.date", "datetime.timedelta", "pendulum.date.Date", "zoneinfo.ZoneInfo",
    "decimal.Decimal", "uuid.UUID", "pendulum.tz.timezone.Timezone", "pendulum.tz.timezone.FixedTimezone",
)  # fmt: skip


def _moment(value: Any) -> datetime:
    """Reads a date and time with a zone from Airflow's serialised form, as UTC."""
    data = value.get(_DATA) if isinstance(value, dict) and set(value) == {_CLASS, _VERSION, _DATA} else None
    if not isinstance(data, dict) or value[_CLASS] not in _DATES:
        raise ValueError("it must be a date and time")
    stamp = data.get("timestamp")
    if not isinstance(stamp, int | float) or isinstance(stamp, bool) or not data.get("tz"):
        raise ValueError("it must be a date and time with a time zone")
    try:
        return datetime.fromtimestamp(stamp, UTC)
    except (ValueError, OverflowError, OSError):
        raise ValueError("it must be a date and time of the calendar") from None


def _listed(value: Any) -> Any:
    """Reads a list, which may be serialised as a tuple or a set."""
    if isinstance(value, dict) and set(value) == {_CLASS, _VERSION, _DATA} and value[_CLASS] in _COLLECTIONS:
        return value[_DATA]
    return value


Moment = Annotated[datetime, BeforeValidator(_moment)]
_Id = Annotated[StrictStr, StringConstraints(pattern=r"^[\w.\-]+$", max_length=MAX_ID)]
_RunId = Annotated[StrictStr, StringConstraints(pattern=r"^[\x20-\x7e]+$", max_length=MAX_ID)]
_State = Annotated[StrictStr, StringConstraints(pattern=r"^[a-z_]{1,30}$")]
_FEW = (BeforeValidator(_listed), Field(max_length=MAX_NAMES))
_States = Annotated[list[_State], *_FEW]
_Runs = Annotated[list[_RunId], *_FEW]
_Tasks = Annotated[list[_Id], *_FEW]
_Moments = Annotated[list[Moment], *_FEW]
_OneRun = Annotated[list[_RunId], BeforeValidator(_listed), Field(min_length=1, max_length=1)]
_Seconds = Annotated[float, Field(ge=SHORTEST_POLL, le=LONGEST_DELAY, strict=True)]


class Arguments(Spec):
    """Base class: the arguments of one allowed trigger."""

    classpath: ClassVar[str]

    def check(self, *, team: str, now: datetime) -> None:
        """Checks what the types do not express.

        Raises:
            ValueError: an argument exceeds a limit, or concerns another team.
        """

    def values_for_airflow(self) -> dict[str, Any]:
        """Returns the arguments for the trigger's constructor."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class DateTimeTrigger(Arguments):
    """Waits for a moment. Airflow serialises a TimeDeltaTrigger as this one, too."""

    classpath = f"{_PACKAGE}.temporal.DateTimeTrigger"
    moment: Moment
    end_from_trigger: StrictBool = False

    def check(self, *, team: str, now: datetime) -> None:
        """Checks that the moment is within the longest wait."""
        if self.moment - now > timedelta(seconds=LONGEST_DELAY):
            raise ValueError(f"moment: {self.moment:%Y-%m-%d} is too far away: keep it within {LONGEST_DELAY} s")


class WorkflowTrigger(Arguments):
    """Waits for runs or tasks of another DAG (ExternalTaskSensor)."""

    classpath = f"{_PACKAGE}.external_task.WorkflowTrigger"
    external_dag_id: _Id
    run_ids: _Runs | None = None
    logical_dates: _Moments | None = None
    external_task_ids: _Tasks | None = None
    external_task_group_id: _Id | None = None
    failed_states: _States | None = None
    skipped_states: _States | None = None
    allowed_states: _States | None = None
    poke_interval: _Seconds
    soft_fail: StrictBool = False

    def check(self, *, team: str, now: datetime) -> None:
        """Checks that the DAG belongs to the team."""
        _require_own_dag(self.external_dag_id, "external_dag_id", team)


class DagStateTrigger(Arguments):
    """Waits for a run of another DAG to end (TriggerDagRunOperator)."""

    classpath = f"{_PACKAGE}.external_task.DagStateTrigger"
    dag_id: _Id
    states: _States
    run_ids: _OneRun
    execution_dates: None = None  # a run has one id
    poll_interval: _Seconds

    def check(self, *, team: str, now: datetime) -> None:
        """Checks that the DAG belongs to the team."""
        _require_own_dag(self.dag_id, "dag_id", team)


ALLOWED: Mapping[str, type[Arguments]] = {
    model.classpath: model for model in (DateTimeTrigger, WorkflowTrigger, DagStateTrigger)
}


def judge_trigger(classpath: str, arguments: str, *, team: str, now: datetime) -> dict[str, Any]:
    """Validates a trigger and returns its arguments as plain values. The task's own text is not used after this.

    Args:
        classpath: the trigger's class, as the task names it.
        arguments: the arguments as JSON, as stored in the database.
        team: the team of the task.
        now: the current time, with a time zone.

    Raises:
        TeamMistake: the platform does not run this trigger, or not with these arguments.
    """
    model = ALLOWED.get(classpath)
    if model is None:
        raise TeamMistake(
            f"the platform does not run the trigger {_shown(classpath)}{nearest(classpath[:200], ALLOWED)}",
            fix=f"use one of {', '.join(ALLOWED)}; or wait in the task itself (deferrable=False)",
        )
    fix = f"see {classpath} for its arguments; or wait in the task itself (deferrable=False)"
    try:
        if len(arguments) > MAX_ARGUMENTS:
            raise ValueError(f"they have {len(arguments):,} characters, more than {MAX_ARGUMENTS:,}")
        read = model.read(_json(arguments), where="")
        read.check(team=team, now=now)
    except TeamMistake as error:
        raise TeamMistake(f"the trigger's arguments are invalid: {_shown(error.what, 500)}", fix=fix) from None
    except ValueError as error:
        raise TeamMistake(f"the trigger's arguments are invalid: {error}", fix=fix) from None
    return read.values_for_airflow()


def judge_carried(value: Any) -> None:
    """Validates what a task keeps while it is deferred: the arguments of the method that resumes it.

    Airflow decodes them when the trigger fires, in the process that has access to the database.

    Raises:
        TeamMistake: decoding them would make Airflow import a class.
    """
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            kind = item.get(_CLASS)
            if _OLD_TYPE in item or _OLD_DATA in item or (_CLASS in item and kind not in _CARRIED):
                named = item.get(_OLD_TYPE) if _CLASS not in item else kind
                raise TeamMistake(
                    f"the task passes an object of the class {_shown(named)} to `defer`",
                    fix="pass plain values as kwargs: text, numbers, dates, and lists and dicts of them",
                )
            stack += item.values()
        elif isinstance(item, list):
            stack += item


def too_large(arguments: int, carried: int) -> TeamMistake:
    """Makes the error for a trigger that is too large to be read.

    Args:
        arguments: characters of its arguments.
        carried: characters of the kwargs that the task passes to `defer`.
    """
    return TeamMistake(
        f"the trigger's arguments have {arguments:,} characters and the kwargs of `defer` {carried:,}",
        fix=f"keep them to {MAX_ARGUMENTS:,} and {MAX_CARRIED:,}: pass data as an artifact",
    )


def _require_own_dag(dag_id: str, name: str, team: str) -> None:
    if owner_of(dag_id) != team:
        raise ValueError(f"{name}: '{dag_id}' is not a DAG of team '{team}': name one that begins with '{team}__'")


def _json(text: str) -> Any:
    """Parses plain JSON. Airflow would also try a Fernet token and the BaseSerialization of old releases."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise ValueError("they are not JSON") from None


def _no_number(name: str) -> None:
    raise ValueError(name)


def _shown(value: Any, characters: int = 200) -> str:
    """Returns a text that every database and terminal accepts."""
    text = "".join(letter if letter.isprintable() else "�" for letter in str(value)[:characters])
    return text + "…" * (len(str(value)) > characters)

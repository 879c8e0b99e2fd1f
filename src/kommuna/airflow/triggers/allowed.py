"""What a deferred task may wait by: the judgement of its trigger, before anything of it is imported or decoded.

A task that defers names a class and its arguments, and Airflow's triggerer imports the one and decodes the other,
whatever they are. Here both are text. The class must be on a short list, and its arguments are read into a model of
plain values, from which they are written anew: nothing that a task wrote reaches Airflow's decoders.
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
MAX_CARRIED = 64_000  # characters of what a task carries over its wait
SHORTEST_POLL = 10  # seconds between two looks at a run: each is a query of the database that all teams share
MAX_NAMES = 100  # runs, tasks or states in one trigger
_PACKAGE = "airflow.providers.standard.triggers"
_CLASS, _VERSION, _DATA = "__classname__", "__version__", "__data__"
_OLD_TYPE, _OLD_DATA = "__type", "__var"
# Tuples, since what is looked for in them may be anything, a list as well.
_DATES = ("datetime.datetime", "pendulum.datetime.DateTime")
_COLLECTIONS = ("builtins.tuple", "builtins.set", "builtins.frozenset")
# What Airflow decodes by no more than a constructor of Python's own.
_CARRIED = (
    *_DATES, *_COLLECTIONS, "datetime.date", "datetime.timedelta", "pendulum.date.Date", "zoneinfo.ZoneInfo",
    "decimal.Decimal", "uuid.UUID", "pendulum.tz.timezone.Timezone", "pendulum.tz.timezone.FixedTimezone",
)  # fmt: skip


def _moment(value: Any) -> datetime:
    """A date and time with a zone, of Airflow's serialised form; the zone's name is of no interest."""
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
    """A list, be it written as a tuple or a set."""
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
    """The arguments of a trigger that the platform runs."""

    classpath: ClassVar[str]

    def check(self, *, team: str, now: datetime) -> None:
        """What their types do not say.

        Raises:
            ValueError: they are beyond a limit, or about another team.
        """

    def values_for_airflow(self) -> dict[str, Any]:
        """What the trigger is made from."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class DateTimeTrigger(Arguments):
    """Waits for a moment; a TimeDeltaTrigger is written as one, too."""

    classpath = f"{_PACKAGE}.temporal.DateTimeTrigger"
    moment: Moment
    end_from_trigger: StrictBool = False

    def check(self, *, team: str, now: datetime) -> None:
        """Within the longest wait."""
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
        """Of the team's own DAGs."""
        _own(self.external_dag_id, "external_dag_id", team)


class DagStateTrigger(Arguments):
    """Waits for a run of another DAG to end (TriggerDagRunOperator)."""

    classpath = f"{_PACKAGE}.external_task.DagStateTrigger"
    dag_id: _Id
    states: _States
    run_ids: _OneRun
    execution_dates: None = None  # a run has one id
    poll_interval: _Seconds

    def check(self, *, team: str, now: datetime) -> None:
        """Of the team's own DAGs."""
        _own(self.dag_id, "dag_id", team)


ALLOWED: Mapping[str, type[Arguments]] = {
    model.classpath: model for model in (DateTimeTrigger, WorkflowTrigger, DagStateTrigger)
}


def judge_trigger(classpath: str, arguments: str, *, team: str, now: datetime) -> dict[str, Any]:
    """The arguments of a trigger, as plain values; what a task wrote is not used after this.

    Args:
        classpath: the class that the task names.
        arguments: JSON, as the database has it.
        team: whose task it is.
        now: with a time zone.

    Raises:
        TeamMistake: the platform does not run it, or not with these arguments.
    """
    model = ALLOWED.get(classpath)
    if model is None:
        raise TeamMistake(
            f"the trigger {_shown(classpath)} is none that the platform runs{nearest(classpath[:200], ALLOWED)}",
            fix=f"wait by one of {', '.join(ALLOWED)}; or wait in the task itself (deferrable=False)",
        )
    fix = f"see {classpath} for its arguments; or wait in the task itself (deferrable=False)"
    try:
        if len(arguments) > MAX_ARGUMENTS:
            raise ValueError(f"they have {len(arguments):,} characters, more than {MAX_ARGUMENTS:,}")
        read = model.read(_json(arguments), where="")
        read.check(team=team, now=now)
    except TeamMistake as error:
        raise TeamMistake(f"the trigger's arguments do not fit: {_shown(error.what, 500)}", fix=fix) from None
    except ValueError as error:
        raise TeamMistake(f"the trigger's arguments do not fit: {error}", fix=fix) from None
    return read.values_for_airflow()


def judge_carried(value: Any) -> None:
    """What a task carries over its wait: the arguments of the method that it resumes by.

    Airflow decodes them when the trigger fires, in the process that holds the database.

    Raises:
        TeamMistake: they would make Airflow import a class.
    """
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            kind = item.get(_CLASS)
            if _OLD_TYPE in item or _OLD_DATA in item or (_CLASS in item and kind not in _CARRIED):
                named = item.get(_OLD_TYPE) if _CLASS not in item else kind
                raise TeamMistake(
                    f"the task carries an object of the class {_shown(named)} over its wait",
                    fix="give `defer` plain values as kwargs: text, numbers, dates, lists and dicts of them",
                )
            stack += item.values()
        elif isinstance(item, list):
            stack += item


def too_large(arguments: int, carried: int) -> TeamMistake:
    """Why a trigger is not even read.

    Args:
        arguments: characters of its arguments.
        carried: characters of what the task carries over its wait.
    """
    return TeamMistake(
        f"the trigger's arguments have {arguments:,} characters and the task carries {carried:,} over its wait",
        fix=f"keep them to {MAX_ARGUMENTS:,} and {MAX_CARRIED:,}: hand data over by an artifact",
    )


def _own(dag_id: str, name: str, team: str) -> None:
    if owner_of(dag_id) != team:
        raise ValueError(f"{name}: '{dag_id}' is no DAG of team '{team}': name one that begins with '{team}__'")


def _json(text: str) -> Any:
    """Plain JSON. Airflow would try other forms as well: a Fernet token, or the BaseSerialization of old releases."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise ValueError("they are no JSON") from None


def _no_number(name: str) -> None:
    raise ValueError(name)


def _shown(value: Any, characters: int = 200) -> str:
    """A text that every database and terminal takes."""
    text = "".join(letter if letter.isprintable() else "�" for letter in str(value)[:characters])
    return text + "…" * (len(str(value)) > characters)

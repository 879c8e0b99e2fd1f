"""A parser's answer, of which nothing is believed: what is left of it after this is what the platform stores.

The order matters. Shape and types are looked at before Airflow reads the DAGs back, since reading back imports the
classes that they name; and the gate judges what was read back, since that is what the scheduler will see.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow.dag_processing.processor import DagFileParsingResult
from airflow.serialization.enums import DagAttributeTypes as Kind
from airflow.serialization.serialized_objects import DagSerialization, LazyDeserializedDAG
from airflow.settings import DAGS_FOLDER
from airflow.task.trigger_rule import TriggerRule

from kommuna.airflow.admission.policies import facts
from kommuna.airflow.admission.rules import judge
from kommuna.spec.team import Platform

MAX_DAGS = 100
MAX_DEPTH = 100
MAX_VALUES = 500_000
MAX_ERROR = 20_000  # characters of an import error
MAX_TEXT = 100_000  # characters of any other text, such as a DAG's documentation
_SERIAL_VERSION = 3
_KINDS = {
    kind.value
    for kind in (
        Kind.DAG, Kind.OP, Kind.DATETIME, Kind.TIMEDELTA, Kind.TIMEZONE, Kind.RELATIVEDELTA, Kind.DICT, Kind.SET,
        Kind.TUPLE, Kind.TASK_GROUP, Kind.EDGE_INFO, Kind.PARAM, Kind.XCOM_REF, Kind.ASSET,
        Kind.ASSET_ALIAS, Kind.ASSET_ANY, Kind.ASSET_ALL, Kind.ASSET_REF, Kind.ASSET_UNIQUE_KEY,
        Kind.ASSET_ALIAS_UNIQUE_KEY, Kind.ARG_NOT_SET, Kind.MAPPED_ARGUMENT, Kind.DEADLINE_ALERT,
    )
}  # fmt: skip
_IMPORTS = ("airflow.timetables.", "airflow.partition_mappers.")


class Malformed(Exception):
    """The answer is none that Airflow's own parsing gives; the message says where."""


@dataclass(frozen=True)
class Asked:
    """What the processor asked for, and so what an answer may be about.

    Attributes:
        team: the bundle's team.
        platform: every team.
        file: the DAG file's path, absolute, at the processor.
        relative: the same below the bundle.
        bundle_folder: the bundle at the parser, which people need not see.
    """

    team: str
    platform: Platform
    file: str
    relative: str
    bundle_folder: str = ""


def judged(body: Mapping[str, Any], asked: Asked) -> DagFileParsingResult:
    """The result to store: the parser's DAGs, all of them, or an import error of the file that was asked for.

    Args:
        body: the parser's message, as it came.
        asked: what it is the answer to.

    Raises:
        Malformed: the message has another shape than a result of Airflow's parsing.
    """
    dags, errors = _shape(body)
    found = [
        error[:MAX_ERROR].replace(f"{asked.bundle_folder}/" if asked.bundle_folder else "\0", "") for error in errors
    ]
    accepted = []
    for number, data in enumerate(dags):
        violations = _judge_dag(data, asked, f"DAG {number + 1} of the answer")
        found += violations
        accepted.append(LazyDeserializedDAG.model_construct(data=data, last_loaded=None))
    ids = [dag.data["dag"]["dag_id"] for dag in accepted]
    found += [f"two DAGs of the file have the id '{dag_id}'" for dag_id in sorted({i for i in ids if ids.count(i) > 1})]
    if found:
        return refused(asked, "\n".join(dict.fromkeys(found)))
    return DagFileParsingResult(fileloc=asked.file, serialized_dags=accepted, warnings=_warnings(body, ids))


def refused(asked: Asked, text: str) -> DagFileParsingResult:
    """An import error of the file that was asked for."""
    printable = text.replace("\0", "�").encode("utf-8", "replace").decode()
    errors = {asked.relative: printable[:MAX_ERROR]}
    return DagFileParsingResult(fileloc=asked.file, serialized_dags=[], import_errors=errors)


def _shape(body: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """The serialised DAGs and the texts of import errors; which files it says that they are of is of no interest."""
    dags, errors = body.get("serialized_dags"), body.get("import_errors") or {}
    if not isinstance(dags, list) or not isinstance(errors, Mapping):
        raise Malformed("it is no list of DAGs with import errors")
    if len(dags) > MAX_DAGS:
        raise Malformed(f"it has {len(dags)} DAGs, more than {MAX_DAGS}")
    if not all(isinstance(text, str) for text in errors.values()) or len(errors) > MAX_DAGS:
        raise Malformed("an import error is no text")
    found = [dag.get("data") if isinstance(dag, dict) else None for dag in dags]
    if not all(isinstance(data, dict) for data in found):
        raise Malformed("a DAG is no object")
    return [data for data in found if isinstance(data, dict)], [str(text) for text in errors.values()]


def _judge_dag(data: dict[str, Any], asked: Asked, where: str) -> list[str]:
    """What keeps a DAG out; its file is set to the one that was asked for, whatever it says.

    Raises:
        Malformed: it cannot be read back.
    """
    _walk(data, where)
    if data.get("__version") != _SERIAL_VERSION:
        raise Malformed(f"{where} has the serial version {data.get('__version')!r}, not {_SERIAL_VERSION}")
    if not isinstance(data.get("dag"), dict):
        raise Malformed(f"{where} has no 'dag'")
    # The processor reads the code to show from this path: the answer does not get to choose it.
    data["dag"] |= {"fileloc": asked.file, "relative_fileloc": asked.relative}
    data["dag"]["_processor_dags_folder"] = DAGS_FOLDER
    try:
        DagSerialization.validate_schema(data)
        deadlines = data["dag"].get("deadline")
        readable = {**data, "dag": {**data["dag"], "deadline": None}}
        dag = DagSerialization.from_dict(readable)
        dag.deadline = deadlines  # not read back: that would import its callback
        for task in dag.tasks:  # what is unknown fails here, and not in the scheduler
            TriggerRule(task.trigger_rule)
            task.weight_rule  # noqa: B018
        seen = facts(dag)
        LazyDeserializedDAG.model_construct(data=readable, last_loaded=None).next_dagrun_info(
            last_automated_run_info=None
        )
    except Exception as error:
        name = type(error).__name__
        raise Malformed(
            f"{where} cannot be read back: {name}: {str(error).splitlines()[0][:300] if str(error) else ''}"
        ) from None
    return [str(violation) for violation in judge(seen, team=asked.team, platform=asked.platform)]


def _walk(data: Any, where: str) -> None:
    """Checks that a value is plain JSON, of bounded size, and names no class but Airflow's own."""
    left = MAX_VALUES
    stack: list[tuple[Any, int]] = [(data, 0)]
    while stack:
        value, depth = stack.pop()
        left -= 1
        if left < 0:
            raise Malformed(f"{where} has more than {MAX_VALUES:,} values")
        if depth > MAX_DEPTH:
            raise Malformed(f"{where} is nested deeper than {MAX_DEPTH}")
        if isinstance(value, dict):
            kind = value.get("__type")
            if kind is not None and not _known(kind):
                raise Malformed(f"{where} names the type {str(kind)[:100]!r}")
            if not all(isinstance(key, str) for key in value):
                raise Malformed(f"{where} has a key that is no text")
            stack += [(item, depth + 1) for pair in value.items() for item in pair]
        elif isinstance(value, list):
            stack += [(item, depth + 1) for item in value]
        elif isinstance(value, str):
            if "\0" in value or len(value) > MAX_TEXT:
                raise Malformed(f"{where} has a text with a null character, or of more than {MAX_TEXT:,} characters")
        elif isinstance(value, float):
            if not math.isfinite(value):
                raise Malformed(f"{where} has a number that is none in JSON")
        elif not isinstance(value, bool | int | None):
            raise Malformed(f"{where} has a value of the type {type(value).__name__}")


def _known(kind: Any) -> bool:
    return isinstance(kind, str) and (kind in _KINDS or (kind.startswith(_IMPORTS) and kind.count(".") == 3))


def _warnings(body: Mapping[str, Any], ids: list[str]) -> list[dict[str, str]]:
    """Airflow's warnings of code that varies from parse to parse, where they are about the answer's own DAGs."""
    found = []
    for warning in body.get("warnings") or ():
        if not isinstance(warning, Mapping) or warning.get("dag_id") not in ids:
            continue
        if warning.get("warning_type") == "runtime varying value" and isinstance(warning.get("message"), str):
            message = warning["message"].replace("\0", "")[:2000]
            found.append({"dag_id": warning["dag_id"], "warning_type": "runtime varying value", "message": message})
    return found[: len(ids)]

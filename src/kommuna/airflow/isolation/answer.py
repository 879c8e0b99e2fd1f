"""Validates a parser's answer, which is untrusted, and returns what the platform stores of it.

The order matters. Shape and types are checked before Airflow deserialises the DAGs, since deserialising imports the
classes that they name. Admission checks the deserialised DAGs, since the scheduler will see these.
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
        Kind.ASSET_ALIAS_UNIQUE_KEY, Kind.ARG_NOT_SET, Kind.MAPPED_ARGUMENT,
    )
}  # fmt: skip
_CLASS_NAME = "__classname__"  # Airflow imports and constructs the class that this key names
_IMPORTS = ("airflow.timetables.", "airflow.partition_mappers.")


class Malformed(Exception):
    """The answer differs from what Airflow's own parsing produces; the message says where."""


@dataclass(frozen=True)
class RequestedFile:
    """The file that the processor requested, the only one that an answer may be about.

    Attributes:
        team: the bundle's team.
        platform: all teams.
        file: the absolute path of the DAG file at the processor.
        relative: its path relative to the bundle.
        bundle_folder: the bundle's folder at the parser, which is removed from error messages.
    """

    team: str
    platform: Platform
    file: str
    relative: str
    bundle_folder: str = ""


def checked_result(body: Mapping[str, Any], requested: RequestedFile) -> DagFileParsingResult:
    """Returns the result to store: all DAGs of the answer, or an import error of the requested file.

    Args:
        body: the parser's message, unchecked.
        requested: the file that was requested.

    Raises:
        Malformed: the message is not shaped like a result of Airflow's parsing.
    """
    dags, errors = _shape(body)
    found = [
        error[:MAX_ERROR].replace(f"{requested.bundle_folder}/" if requested.bundle_folder else "\0", "")
        for error in errors
    ]
    accepted = []
    for number, data in enumerate(dags):
        violations = _judge_dag(data, requested, f"DAG {number + 1} of the answer")
        found += violations
        accepted.append(LazyDeserializedDAG.model_construct(data=data, last_loaded=None))
    ids = [dag.data["dag"]["dag_id"] for dag in accepted]
    found += [f"two DAGs of the file have the id '{dag_id}'" for dag_id in sorted({i for i in ids if ids.count(i) > 1})]
    if found:
        return import_error(requested, "\n".join(dict.fromkeys(found)))
    return DagFileParsingResult(fileloc=requested.file, serialized_dags=accepted, warnings=_warnings(body, ids))


def import_error(requested: RequestedFile, text: str) -> DagFileParsingResult:
    """Makes an import error of the requested file."""
    printable = text.replace("\0", "�").encode("utf-8", "replace").decode()
    errors = {requested.relative: printable[:MAX_ERROR]}
    return DagFileParsingResult(fileloc=requested.file, serialized_dags=[], import_errors=errors)


def _shape(body: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """Returns the serialised DAGs and the import errors. The file names that the answer gives are ignored."""
    dags, errors = body.get("serialized_dags"), body.get("import_errors") or {}
    if not isinstance(dags, list) or not isinstance(errors, Mapping):
        raise Malformed("it is not a list of DAGs with import errors")
    if len(dags) > MAX_DAGS:
        raise Malformed(f"it has {len(dags)} DAGs, more than {MAX_DAGS}")
    if not all(isinstance(text, str) for text in errors.values()) or len(errors) > MAX_DAGS:
        raise Malformed("an import error is not a text")
    found = [dag.get("data") if isinstance(dag, dict) else None for dag in dags]
    if not all(isinstance(data, dict) for data in found):
        raise Malformed("a DAG is not an object")
    return [data for data in found if isinstance(data, dict)], [str(text) for text in errors.values()]


def _judge_dag(data: dict[str, Any], requested: RequestedFile, where: str) -> list[str]:
    """Returns the admission rules that a DAG breaks, after setting its file to the requested one.

    Raises:
        Malformed: Airflow cannot deserialise it.
    """
    # Admission refuses deadlines, which name the class of their callback: they are counted, and never deserialised.
    deadlines = data["dag"].get("deadline") if isinstance(data.get("dag"), dict) else None
    if deadlines:
        data["dag"]["deadline"] = None
    _walk(data, where)
    if data.get("__version") != _SERIAL_VERSION:
        raise Malformed(f"{where} has the serial version {data.get('__version')!r}, not {_SERIAL_VERSION}")
    if not isinstance(data.get("dag"), dict):
        raise Malformed(f"{where} has no 'dag'")
    # The processor reads the code that the UI shows from this path, so the answer must not choose it.
    data["dag"] |= {"fileloc": requested.file, "relative_fileloc": requested.relative}
    data["dag"]["_processor_dags_folder"] = DAGS_FOLDER
    try:
        DagSerialization.validate_schema(data)
        dag = DagSerialization.from_dict(data)
        dag.deadline = deadlines
        for task in dag.tasks:  # unknown values fail here and not in the scheduler
            TriggerRule(task.trigger_rule)
            task.weight_rule  # noqa: B018
        seen = facts(dag)
        LazyDeserializedDAG.model_construct(data=data, last_loaded=None).next_dagrun_info(last_automated_run_info=None)
    except Exception as error:
        name = type(error).__name__
        raise Malformed(
            f"{where} cannot be deserialised: {name}: {str(error).splitlines()[0][:300] if str(error) else ''}"
        ) from None
    return [str(violation) for violation in judge(seen, team=requested.team, platform=requested.platform)]


def _walk(data: Any, where: str) -> None:
    """Checks that a value is plain JSON of bounded size, and names only classes of Airflow."""
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
            if _CLASS_NAME in value:
                raise Malformed(f"{where} names the class {str(value[_CLASS_NAME])[:100]!r}")
            if not all(isinstance(key, str) for key in value):
                raise Malformed(f"{where} has a key that is not a text")
            stack += [(item, depth + 1) for pair in value.items() for item in pair]
        elif isinstance(value, list):
            stack += [(item, depth + 1) for item in value]
        elif isinstance(value, str):
            if "\0" in value or len(value) > MAX_TEXT:
                raise Malformed(f"{where} has a text with a null character, or of more than {MAX_TEXT:,} characters")
        elif isinstance(value, float):
            if not math.isfinite(value):
                raise Malformed(f"{where} has a number that JSON does not allow")
        elif not isinstance(value, bool | int | None):
            raise Malformed(f"{where} has a value of the type {type(value).__name__}")


def _known(kind: Any) -> bool:
    return isinstance(kind, str) and (kind in _KINDS or (kind.startswith(_IMPORTS) and kind.count(".") == 3))


def _warnings(body: Mapping[str, Any], ids: list[str]) -> list[dict[str, str]]:
    """Keeps Airflow's warnings about values that vary between parses, if they concern DAGs of the answer."""
    found = []
    for warning in body.get("warnings") or ():
        if not isinstance(warning, Mapping) or warning.get("dag_id") not in ids:
            continue
        if warning.get("warning_type") == "runtime varying value" and isinstance(warning.get("message"), str):
            message = warning["message"].replace("\0", "")[:2000]
            found.append({"dag_id": warning["dag_id"], "warning_type": "runtime varying value", "message": message})
    return found[: len(ids)]

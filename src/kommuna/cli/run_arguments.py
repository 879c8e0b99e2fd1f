"""What a run is started with on the command line: parameters and a logical date."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from kommuna.errors import SpecError, StepNotFound, nearest

Params = Annotated[
    list[str] | None, typer.Option("--param", "-p", help="NAME=VALUE of a param of the DAG's, JSON or text; repeatable")
]
Conf = Annotated[str, typer.Option("--conf", help="The run's conf as a JSON object, or @FILE that holds one.")]
LogicalDate = Annotated[
    str, typer.Option("--date", help="The logical date ({{ ds }}): 2026-09-01, a time in ISO 8601, or `none`.")
]


def given_params(params: list[str] | None) -> dict[str, Any]:
    """The parameters of `--param`.

    Raises:
        SpecError: one is not NAME=VALUE.
    """
    return dict(_parameter(text) for text in params or ())


def require_declared(dag_id: str, given: Iterable[str], params: Collection[str]) -> None:
    """Checks that a DAG has the parameters of `--param`: Airflow takes any, and a misspelt one would change nothing.

    Raises:
        StepNotFound: it lacks one; the nearest is named.
    """
    for name in given:
        if name not in params:
            raise StepNotFound(
                f"{dag_id} has no parameter '{name}'{nearest(name, params)}",
                fix=f"its parameters are: {', '.join(params) or 'none'}; what is none of them goes by --conf",
            )


def _parameter(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise SpecError(f"--param '{text}' is no NAME=VALUE", fix="write --param min_confidence=0.7")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def given_conf(text: str) -> dict[str, Any]:
    """The parameters of `--conf`.

    Raises:
        SpecError: there is no such file, or it holds no JSON object.
    """
    if not text:
        return {}
    fix = "write --conf '{\"min_confidence\": 0.7}', or --conf @parameters.json"
    try:
        given = json.loads(Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text)
    except OSError as error:
        raise SpecError(f"--conf {text}: {error.strerror}", fix=fix) from None
    except ValueError as error:
        raise SpecError(f"--conf is not JSON: {error}", fix=fix) from None
    if not isinstance(given, dict):
        raise SpecError("--conf is not a JSON object", fix=fix)
    return given


def given_date(text: str) -> datetime | None:
    """The logical date of `--date`; a date without an offset is UTC.

    Raises:
        SpecError: it is not a date.
    """
    if text == "none":
        return None
    try:
        given = datetime.now(UTC) if text == "now" else datetime.fromisoformat(text)
    except ValueError:
        raise SpecError(
            f"--date '{text}' is not a date", fix="write 2026-09-01, 2026-09-01T12:00+03:00, now or none"
        ) from None
    return given if given.tzinfo else given.replace(tzinfo=UTC)

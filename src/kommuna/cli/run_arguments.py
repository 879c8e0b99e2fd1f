"""Command-line arguments of a run: parameters, conf and logical date."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from kommuna.errors import SpecError, StepNotFound, nearest

Params = Annotated[
    list[str] | None,
    typer.Option("--param", "-p", help="NAME=VALUE for a param of the DAG, as JSON or text; repeatable."),
]
Conf = Annotated[str, typer.Option("--conf", help="The run's conf as a JSON object, or @FILE with a JSON object.")]
LogicalDate = Annotated[
    str, typer.Option("--date", help="The logical date ({{ ds }}): 2026-09-01, a time in ISO 8601, or `none`.")
]


def given_params(params: list[str] | None) -> dict[str, Any]:
    """Parses the parameters of `--param`.

    Raises:
        SpecError: one is not NAME=VALUE.
    """
    return dict(_parameter(text) for text in params or ())


def require_declared(dag_id: str, given: Iterable[str], params: Collection[str]) -> None:
    """Checks that a DAG has the parameters of `--param`. Airflow accepts any name, and ignores a misspelt one.

    Args:
        dag_id: the DAG's id, for the error.
        given: the names of the parameters on the command line.
        params: the names that the DAG declares.

    Raises:
        StepNotFound: it has no such parameter; the error suggests the nearest one.
    """
    for name in given:
        if name not in params:
            raise StepNotFound(
                f"{dag_id} has no parameter '{name}'{nearest(name, params)}",
                fix=f"its parameters are: {', '.join(params) or 'none'}; pass anything else with --conf",
            )


def _parameter(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise SpecError(f"--param '{text}' is not NAME=VALUE", fix="write --param min_confidence=0.7")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def given_conf(text: str) -> dict[str, Any]:
    """Parses the parameters of `--conf`.

    Raises:
        SpecError: the file does not exist, or the text is not a JSON object.
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
    """Parses the logical date of `--date`. A date without an offset is UTC.

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

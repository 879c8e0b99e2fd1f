"""Checks on columns that several steps make before they start, with the same messages."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from kommuna.errors import MissingColumn, SchemaDrift, SpecError, nearest

OWN = "\0"  # begins the columns that steps add for themselves: no file's header has such a name
ROW = f"{OWN}row"


def require(schema: pl.Schema, columns: Iterable[str], *, where: str = "") -> None:
    """Raises MissingColumn, with the columns found and the nearest name, for the first column that is absent."""
    for column in columns:
        if column not in schema:
            raise missing(column, list(schema), where=where)


def require_text(schema: pl.Schema, column: str, *, where: str = "") -> None:
    """Raises MissingColumn or SchemaDrift unless the column is there and holds text."""
    require(schema, [column], where=where)
    if schema[column] not in (pl.String, pl.Null):
        raise SchemaDrift(
            f"column '{column}': expected String, found {schema[column]}",
            where=where,
            fix=f"name the column with the text, or declare '{column}' as String where the table is read",
        )


def require_apart(key: str, text: str) -> None:
    """Raises SpecError where one column is given as the key and as the text."""
    if key == text:
        raise SpecError(
            f"column '{key}' is given as the key and as the text",
            fix="name the column that tells rows apart as `key`, and the one with the message as `text`",
        )


def missing(column: str, found: list[str], *, where: str) -> MissingColumn:
    """The error for an absent column."""
    shown = ", ".join(found[:30]) + (" …" if len(found) > 30 else "")
    return MissingColumn(
        f"no column '{column}'{nearest(column, found)}; found: {shown}",
        where=where,
        fix="correct the name in the declaration, or in the file",
    )


def unused(taken: Iterable[str], name: str) -> str:
    """A column name that a table does not have yet: the given one, with more `#` before it where needed."""
    names = set(taken)
    while name in names:
        name = f"#{name}"
    return name


def shortened(value: object, limit: int = 60) -> str:
    """A value as it is shown in an error: quoted, one line, at most `limit` characters."""
    text = str(value)
    return repr(text if len(text) <= limit else text[:limit] + "…")

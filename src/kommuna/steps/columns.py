"""Checks on the columns of a step's tables, with one wording for each error, and names for columns that steps add."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from kommuna.errors import DataError, DuplicateKeys, MissingColumn, SchemaDrift, SpecError, nearest

OWN = "\0"  # prefix of the columns that steps add for themselves; no file's header has such a name
ROW = f"{OWN}row"
_LISTED = 30  # columns in a message


def require_columns(table: pl.LazyFrame, columns: Iterable[str], *, what: str, fix: str = "") -> pl.Schema:
    """Returns the table's schema after checking that it has the columns.

    Args:
        table: any table.
        columns: names of the required columns.
        what: the table's name in messages: `dev`, `messages`, …
        fix: how to fix it; lists the table's columns if absent.

    Raises:
        MissingColumn: names the missing column, the nearest name and the table's columns.
    """
    schema = table.collect_schema()
    for column in columns:
        if column not in schema:
            raise missing_column(column, schema.names(), what=what, fix=fix)
    return schema


def require_text(table: pl.LazyFrame, column: str, *, what: str) -> None:
    """Checks that a column holds text.

    Args:
        table: any table.
        column: name of the text column.
        what: the table's name in messages: `dev`, `messages`, …

    Raises:
        MissingColumn: there is no such column.
        SchemaDrift: the column has another type.
    """
    kind = require_columns(table, [column], what=what)[column]
    if kind != pl.String:
        raise SchemaDrift(
            f"column '{column}': expected String, found {kind}",
            where=what,
            fix=f"name the column with the text, or declare '{column}' as String where the table is read",
        )


def require_unique(keys: pl.Series, *, what: str) -> None:
    """Checks that a key column has no null and no value twice.

    Args:
        keys: the column, which has the key's name.
        what: the table's name in messages: `dev`, `messages`, …

    Raises:
        DataError: a key is null.
        DuplicateKeys: a key names several rows.
    """
    if keys.null_count():
        raise DataError(f"column '{keys.name}': {keys.null_count()} of {len(keys)} keys are null", where=what)
    if keys.n_unique() < len(keys):
        again = keys.filter(keys.is_duplicated())
        raise DuplicateKeys(
            f"column '{keys.name}': {again[0]!r} names {int((again == again[0]).sum())} rows"
            f" ({len(again)} rows share a key)",
            where=what,
            fix="remove the duplicates, or use another key",
        )


def require_different(key: str, text: str) -> None:
    """Checks that the key and the text are two columns.

    Args:
        key: name of the key column.
        text: name of the text column.

    Raises:
        SpecError: both are the same column.
    """
    if key == text:
        raise SpecError(
            f"column '{key}' is given as the key and as the text",
            fix="name the column that identifies a row as `key`, and the one with the message as `text`",
        )


def missing_column(column: str, found: Sequence[str], *, what: str, fix: str = "") -> MissingColumn:
    """Returns the error for a column that a table does not have.

    Args:
        column: name of the missing column.
        found: names of the table's columns.
        what: the table's name in messages: `dev`, `messages`, a file's name, …
        fix: how to fix it; lists the table's columns if absent.
    """
    listed = ", ".join(found[:_LISTED]) + (" …" if len(found) > _LISTED else "")
    return MissingColumn(
        f"{what} has no column '{column}'{nearest(column, found)}",
        where=what,
        fix=fix or f"its columns are: {listed}",
    )


def unused(taken: Iterable[str], name: str) -> str:
    """Returns a column name that is not taken: the given one, with `#` put before it as often as needed."""
    names = set(taken)
    while name in names:
        name = f"#{name}"
    return name


def shortened(value: object, limit: int = 60) -> str:
    """Returns a value as errors show it: quoted, on one line, with at most `limit` characters."""
    text = str(value)
    return repr(text if len(text) <= limit else text[:limit] + "…")

"""Checks on the columns of the tables that steps label, train on and judge, with the same messages."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from kommuna.errors import MissingColumn, SchemaDrift, nearest


def require_columns(table: pl.LazyFrame, columns: Sequence[str], *, what: str, fix: str = "") -> pl.Schema:
    """The table's schema, once it has the columns.

    Args:
        table: any table.
        columns: names.
        what: the table's name in messages: `dev`, `messages`, …
        fix: how to fix it; the table's columns if absent.
    Raises:
        MissingColumn: names the column, the nearest one and all that there are.
    """
    schema = table.collect_schema()
    for column in columns:
        if column not in schema:
            raise MissingColumn(
                f"{what} has no column '{column}'{nearest(column, schema.names())}",
                where=what,
                fix=fix or f"its columns are: {', '.join(schema.names())}",
            )
    return schema


def require_text(table: pl.LazyFrame, column: str, *, what: str) -> None:
    """Checks that a column holds texts.

    Raises:
        MissingColumn, SchemaDrift: there is no such column, or it holds something else.
    """
    kind = require_columns(table, [column], what=what)[column]
    if kind != pl.String:
        raise SchemaDrift(
            f"column '{column}': expected String, found {kind}",
            where=what,
            fix=f"name the column with the text, or declare '{column}' as String where the table is read",
        )

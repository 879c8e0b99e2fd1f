"""Columns as SQL computes with them: integers of 64 bits, and null in place of NaN."""

from __future__ import annotations

import json
from typing import Any

import polars as pl


def widened(table: pl.LazyFrame) -> pl.LazyFrame:
    """Returns a table with the types that SQL computes with: 64-bit integers, and null in place of NaN."""
    schema = table.collect_schema()
    columns = [wide.alias(name) for name, dtype in schema.items() if (wide := _wide(pl.col(name), dtype)) is not None]
    return table.with_columns(columns) if columns else table


def with_wide_columns(expression: pl.Expr, schema: pl.Schema) -> pl.Expr:
    """Returns an expression that casts its columns as `widened` does.

    Args:
        expression: an expression over the columns of a `widened` table.
        schema: the columns' types before widening.
    """
    wide: dict[str, Any] = {}
    for name in expression.meta.root_names():
        column = _wide(pl.col(name), schema[name]) if name in schema else None
        if column is not None:
            wide[name] = json.loads(column.meta.serialize(format="json"))
    if not wide:
        return expression
    tree = _replaced(json.loads(expression.meta.serialize(format="json")), wide)
    return pl.Expr.deserialize(json.dumps(tree).encode(), format="json")


def _replaced(tree: Any, columns: dict[str, Any]) -> Any:
    if isinstance(tree, list):
        return [_replaced(item, columns) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if list(tree) == ["Column"] and tree["Column"] in columns:
        return columns[tree["Column"]]
    return {key: _replaced(item, columns) for key, item in tree.items()}


def _wide(column: pl.Expr, dtype: pl.DataType) -> pl.Expr | None:
    if dtype.is_integer() and dtype not in (pl.Int64, pl.UInt64, pl.Int128, pl.UInt128):
        return column.cast(pl.Int64)
    return column.fill_nan(None) if dtype.is_float() else None

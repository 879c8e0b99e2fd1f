"""Makes conditions treat numbers that cannot be computed as null: NaN, and integers that overflow 64 bits."""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from kommuna.steps.columns import OWN
from kommuna.steps.etl.sql.dialect import POLARS_ERRORS
from kommuna.steps.etl.sql.rewriter import NAN

_COMPARED = ("Eq", "NotEq", "Lt", "LtEq", "Gt", "GtEq", "EqValidity", "NotEqValidity")
_NOT = {"Boolean": "Not"}
_PLACE = f"{OWN}operand"


def null_on_overflow_or_nan(condition: pl.Expr, schema: pl.Schema) -> pl.Expr:
    """Returns a condition that compares null where Polars would compare NaN (`inf - inf`) or an overflowed integer.

    Polars sorts NaN after every other number, and wraps `9223372036854775807 + 1` around to the smallest integer.

    Args:
        condition: an expression over the columns.
        schema: the columns' types; their floats hold no NaN.
    """
    tree = _NullRewriter(schema).rewrite(json.loads(condition.meta.serialize(format="json")))
    return pl.Expr.deserialize(json.dumps(tree).encode(), format="json")


class _NullRewriter:
    def __init__(self, schema: pl.Schema) -> None:
        self._table = pl.LazyFrame(schema=schema)
        self._nan = json.loads(pl.sql_expr(NAN).meta.serialize(format="json"))  # functions are compared with it

    def rewrite(self, node: Any) -> Any:
        """Rewrites a node of an expression in Polars' JSON, its children first."""
        if isinstance(node, list):
            return [self.rewrite(part) for part in node]
        if not isinstance(node, dict) or list(node) in (["Literal"], ["Column"]):
            return node
        made = {name: self.rewrite(part) for name, part in node.items()}
        match made:
            case {"BinaryExpr": {"op": "Plus" | "Minus", "left": left, "right": right} as inner} if self._is_whole(
                made
            ):
                wide = {"BinaryExpr": {**inner, "left": _wide(left), "right": _wide(right)}}
                return _placed(_narrow(pl.col(_PLACE)), wide)
            case {"Function": {"function": {"Sql": {"Binary": "Mul"}}, "input": operands} as inner} if self._is_whole(
                made
            ):
                return _placed(_narrow(pl.col(_PLACE)), {"Function": {**inner, "input": [*map(_wide, operands)]}})
            case {"BinaryExpr": {"op": op, "left": left, "right": right} as inner} if (
                op in _COMPARED and right != self._nan
            ):
                return {"BinaryExpr": {**inner, "left": self._no_nan(left), "right": self._no_nan(right)}}
            case {"Function": {"function": test, "input": operands} as inner} if (
                test != _NOT and self._dtype(made) == pl.Boolean
            ):
                return {"Function": {**inner, "input": [self._no_nan(operand) for operand in operands]}}
        return made

    def _no_nan(self, node: Any) -> Any:
        is_made = isinstance(node, dict) and list(node) not in (["Literal"], ["Column"])
        dtype = self._dtype(node) if is_made else None
        return _placed(pl.col(_PLACE).fill_nan(None), node) if dtype is not None and dtype.is_float() else node

    def _is_whole(self, node: Any) -> bool:
        dtype = self._dtype(node)
        return dtype is not None and dtype.is_integer() and dtype not in (pl.Int128, pl.UInt128)

    def _dtype(self, node: Any) -> pl.DataType | None:
        try:
            expression = pl.Expr.deserialize(json.dumps(node).encode(), format="json")
            return self._table.select(expression.alias(_PLACE)).collect_schema()[_PLACE]
        except POLARS_ERRORS:
            return None  # Polars reports what is wrong with it


def _wide(node: Any) -> Any:
    return _placed(pl.col(_PLACE).cast(pl.Int128), node)


def _narrow(value: pl.Expr) -> pl.Expr:
    return value.cast(pl.Int64, strict=False)


def _placed(template: pl.Expr, node: Any) -> Any:
    """Returns a template's tree with its placeholder column replaced by a node."""

    def put(tree: Any) -> Any:
        if isinstance(tree, list):
            return [put(part) for part in tree]
        if not isinstance(tree, dict):
            return tree
        return node if tree == {"Column": _PLACE} else {name: put(part) for name, part in tree.items()}

    return put(json.loads(template.meta.serialize(format="json")))

"""Regex rules: Polars' engine where it reads a pattern as Python does, Python's `re` where it does not."""

from __future__ import annotations

import importlib
import re
import warnings
from typing import Any

import polars as pl

from kommuna.spec.rules import Rule

# The parsed form of a pattern has no public module; tests hold what is used of it.
parser: Any = importlib.import_module("re._parser")
ops: Any = importlib.import_module("re._constants")

_PYTHON_ONLY = {
    ops.ASSERT: "look-around",
    ops.ASSERT_NOT: "look-around",
    ops.GROUPREF: "a back-reference",
    ops.GROUPREF_EXISTS: "a conditional group",
    ops.GROUPREF_IGNORE: "a back-reference",
    ops.ATOMIC_GROUP: "an atomic group",
    ops.POSSESSIVE_REPEAT: "a possessive repeat",
}


def regex_hits(rule: Rule, text: pl.Expr) -> pl.Expr:
    """Whether a regex rule fires: Boolean, null where the text is null."""
    pattern = rule.regex or ""
    if python_only(pattern) is None:
        return text.str.contains(f"(?i){pattern}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        found = re.compile(pattern, re.IGNORECASE).search

    def hits(texts: pl.Series) -> pl.Series:
        return pl.Series([None if text is None else found(text) is not None for text in texts], dtype=pl.Boolean)

    return text.map_batches(hits, return_dtype=pl.Boolean, is_elementwise=True)


def python_only(pattern: str) -> str | None:
    """Why a pattern needs Python's `re`, or None where Polars' engine reads it in the same way.

    >>> python_only("card(?! reader)")
    'look-around'
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        try:
            tree = parser.parse(pattern)
        except FutureWarning:
            return "a set within a set, which the engines read differently"
    reason = _reason(tree)
    if reason is None and re.search(r"(?<!\\)(?:\\\\)*\\[<>]|\\b\{", pattern):
        reason = "an escape that the engines read differently"
    if reason is None:
        try:
            pl.Series([""]).str.contains(f"(?i){pattern}")
        except pl.exceptions.ComputeError:
            reason = "a form that Polars' engine refuses"
    return reason


def _reason(node: Any) -> str | None:
    """The first Python-only part in a parsed pattern, found in nested lists and tuples."""
    if isinstance(node, tuple) and node and node[0] in _PYTHON_ONLY:
        return _PYTHON_ONLY[node[0]]
    if isinstance(node, list | tuple | parser.SubPattern):
        parts = node.data if isinstance(node, parser.SubPattern) else node
        return next((reason for part in parts if (reason := _reason(part))), None)
    return None

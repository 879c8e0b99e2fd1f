"""Regex rules: Polars' engine runs patterns that it reads as Python does, the `regex` module runs the others."""

from __future__ import annotations

import importlib
import re
import time
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import polars as pl
import regex

from kommuna.errors import RulesError
from kommuna.spec.rules import RegexRule

# Python has no public module for parsed patterns; tests cover the parts that are used here.
parser: Any = importlib.import_module("re._parser")
ops: Any = importlib.import_module("re._constants")

SECONDS_PER_TEXT = 1.0  # time limit of the slower engine for one text; a typical pattern takes some microseconds
SECONDS_PER_THOUSAND = 1.0  # time limit for each thousand texts of a batch, in addition

# POSIX classes and fuzzy matching of the `regex` module, which are ordinary characters in `re`.
_READ_DIFFERENTLY = re.compile(r"(?<!\\)(?:\\\\)*(\[\[[:.=]|\{(?!,?\d|\d*,?\d*\}))")

_PYTHON_ONLY = {
    ops.ASSERT: "look-around",
    ops.ASSERT_NOT: "look-around",
    ops.GROUPREF: "a back-reference",
    ops.GROUPREF_EXISTS: "a conditional group",
    ops.GROUPREF_IGNORE: "a back-reference",
    ops.ATOMIC_GROUP: "an atomic group",
    ops.POSSESSIVE_REPEAT: "a possessive repeat",
}


def regex_search(rule: RegexRule) -> Callable[[pl.Series], pl.Series]:
    """Returns a function that maps texts to whether a regex rule fires; null where the text is null.

    Raises:
        RulesError: the slower engine would read the pattern in another way than Python's `re`. The returned function
            raises it if the pattern takes too long.
    """
    pattern = rule.regex
    if python_only(pattern) is None:
        return lambda texts: texts.str.contains(polars_pattern(pattern))
    return _search_with_timeout(rule.name, pattern)


def polars_pattern(pattern: str) -> str:
    """Returns a pattern in the syntax of Polars' engine: it ignores case, as rules do."""
    return f"(?i){pattern}"


def _search_with_timeout(name: str, pattern: str) -> Callable[[pl.Series], pl.Series]:
    """Returns a search by the slower engine with a time limit: `(a+)+` could otherwise take years for one text."""
    misread = _READ_DIFFERENTLY.search(pattern)
    if misread:
        raise RulesError(
            f"rule '{name}': {misread[0]!r} in a regex with look-around or the like is not read as in Python",
            where=f"regex: {pattern}",
            fix="write the character itself, or as \\u0031"
            if "\\N{" in pattern
            else "put a backslash before the bracket",
        )
    found = regex.compile(pattern, regex.IGNORECASE | regex.VERSION0).search

    def search(texts: pl.Series) -> pl.Series:
        end = time.monotonic() + SECONDS_PER_TEXT + SECONDS_PER_THOUSAND * len(texts) / 1000
        hits: list[bool | None] = []
        for text in texts:
            try:
                left = min(SECONDS_PER_TEXT, end - time.monotonic())
                hits.append(None if text is None else found(text, timeout=max(left, 1e-6)) is not None)
            except TimeoutError:
                raise RulesError(
                    f"rule '{name}': its regex takes too long: {len(hits):,} of {len(texts):,} texts were searched",
                    where=f"regex: {pattern}",
                    fix="remove nested repeats such as (a+)+, which try every split of a text; or remove look-around "
                    "and back-references: the time is then proportional to the length of the text",
                ) from None
        return pl.Series(hits, dtype=pl.Boolean)

    return search


@cache
def python_only(pattern: str) -> str | None:
    """Returns why a pattern cannot run in Polars' engine, or None if that engine reads it as Python's `re` does.

    >>> python_only("card(?! reader)")
    'look-around'
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        try:
            parser.parse(pattern)
        except FutureWarning:
            return "a set within a set, which the engines read differently"
    reason = _reason(parsed(pattern))
    if reason is None and re.search(r"(?<!\\)(?:\\\\)*\\[<>]|\\b\{", pattern):
        reason = "an escape that the engines read differently"
    if reason is None:
        try:
            pl.Series([""]).str.contains(polars_pattern(pattern))
        except pl.exceptions.ComputeError:
            reason = "a form that Polars' engine refuses"
    return reason


def parsed(pattern: str) -> Any:
    """Parses a pattern as Python's `re` does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return parser.parse(pattern)


def _reason(node: Any) -> str | None:
    """Returns a description of the first Python-only part in a parsed pattern, searched depth first; None if absent."""
    if isinstance(node, tuple) and node and isinstance(node[0], type(ops.ASSERT)) and node[0] in _PYTHON_ONLY:
        return _PYTHON_ONLY[node[0]]
    if isinstance(node, list | tuple | parser.SubPattern):
        parts = node.data if isinstance(node, parser.SubPattern) else node
        return next((reason for part in parts if (reason := _reason(part))), None)
    return None

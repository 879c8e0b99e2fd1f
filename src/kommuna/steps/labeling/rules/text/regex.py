"""Regex rules: Polars' engine where it reads a pattern as Python does, the `regex` module where it does not."""

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

# The parsed form of a pattern has no public module; tests hold what is used of it.
parser: Any = importlib.import_module("re._parser")
ops: Any = importlib.import_module("re._constants")

SECONDS_A_TEXT = 1.0  # that the slower engine may search one text; a usual pattern takes some microseconds
SECONDS_A_THOUSAND = 1.0  # and each thousand texts of a batch, beyond that

# Posix classes and fuzzy matching of the `regex` module, which are plain characters to `re`.
_OTHERWISE_READ = re.compile(r"(?<!\\)(?:\\\\)*(\[\[[:.=]|\{(?!,?\d|\d*,?\d*\}))")

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
    """The function that tells where a regex rule fires: String to Boolean, null where the text is null.

    Raises:
        RulesError: the slower engine would read the pattern in another way than Python's `re`. The function itself
            raises it for a pattern that takes too long.
    """
    pattern = rule.regex
    if python_only(pattern) is None:
        return lambda texts: texts.str.contains(polars_pattern(pattern))
    return _bounded_search(rule.name, pattern)


def polars_pattern(pattern: str) -> str:
    """A pattern that Polars' engine reads as Python does, as it is given to that engine."""
    return f"(?i){pattern}"


def _bounded_search(name: str, pattern: str) -> Callable[[pl.Series], pl.Series]:
    """The slower engine, with an end: a pattern like `(a+)+` may otherwise take years for one text."""
    odd = _OTHERWISE_READ.search(pattern)
    if odd:
        raise RulesError(
            f"rule '{name}': {odd[0]!r} in a regex with look-around or the like is not read as in Python",
            where=f"regex: {pattern}",
            fix="write the character itself, or as \\u0031"
            if "\\N{" in pattern
            else "put a backslash before the bracket",
        )
    found = regex.compile(pattern, regex.IGNORECASE | regex.VERSION0).search

    def search(texts: pl.Series) -> pl.Series:
        end = time.monotonic() + SECONDS_A_TEXT + SECONDS_A_THOUSAND * len(texts) / 1000
        hits: list[bool | None] = []
        for text in texts:
            try:
                left = min(SECONDS_A_TEXT, end - time.monotonic())
                hits.append(None if text is None else found(text, timeout=max(left, 1e-6)) is not None)
            except TimeoutError:
                raise RulesError(
                    f"rule '{name}': its regex takes too long: {len(hits):,} of {len(texts):,} texts were searched",
                    where=f"regex: {pattern}",
                    fix="repeats within repeats, such as (a+)+, try every split of a text: write it without, or "
                    "without look-around and back-references, which then takes time in proportion to the text",
                ) from None
        return pl.Series(hits, dtype=pl.Boolean)

    return search


@cache
def python_only(pattern: str) -> str | None:
    """Why a pattern needs Python's `re`, or None where Polars' engine reads it in the same way.

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
    """A pattern's parts, as Python's `re` reads them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return parser.parse(pattern)


def _reason(node: Any) -> str | None:
    """The first Python-only part in a parsed pattern, found in nested lists and tuples."""
    if isinstance(node, tuple) and node and isinstance(node[0], type(ops.ASSERT)) and node[0] in _PYTHON_ONLY:
        return _PYTHON_ONLY[node[0]]
    if isinstance(node, list | tuple | parser.SubPattern):
        parts = node.data if isinstance(node, parser.SubPattern) else node
        return next((reason for part in parts if (reason := _reason(part))), None)
    return None

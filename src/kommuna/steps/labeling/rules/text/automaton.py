"""Keyword rules, and the words that regexes need: all of them found in one pass of one automaton over lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kommuna.errors import RulesError
from kommuna.spec.rules import KeywordRule
from kommuna.steps.labeling.rules.text.byte_codes import ROW, SIGN, plain_code, whole_words
from kommuna.steps.labeling.rules.text.stems import stem_keyword, stem_pattern
from kommuna.steps.labeling.rules.text.tokens import keyword_line


def keyword_patterns(rule: KeywordRule) -> list[str]:
    """A keyword rule's keywords as they stand in a token line, or in a line of stems if the rule has a language.

    Raises:
        RulesError: a keyword has no letter, digit or sign.
    """
    found = []
    for keyword in rule.any:
        line = stem_pattern(stem_keyword(rule.stem, keyword)) if rule.stem else keyword_line(keyword)
        if not line:
            raise RulesError(
                f"rule '{rule.name}': the keyword {keyword!r} has no letter, digit or sign to look for",
                fix="remove it; spaces and hyphens only separate words",
            )
        found.append(line)
    return found


class Automaton:
    """Looks for many patterns at once, each with owners: places in a table of what was found.

    Args:
        patterns: place to its patterns, not one of them empty.
    """

    def __init__(self, patterns: Mapping[int, Iterable[str]]) -> None:
        owners: dict[str, list[int]] = {}
        for place, own in patterns.items():
            for pattern in dict.fromkeys(own):
                owners.setdefault(pattern, []).append(place)
        # One expression each: every call of Polars hands the work to another thread and waits for it.
        every = [*owners, ROW]
        self._hits = pl.all().cast(pl.String).str.extract_many(every, overlapping=True)
        flat = pl.all().explode(empty_as_null=False, keep_nulls=False)
        self._numbers = flat.cast(pl.Enum(every)).to_physical().cast(pl.UInt32)
        self._row = len(owners)
        # Line k has each pattern's k-th owner; -1 where there is none, so for ROW.
        most = max(map(len, owners.values()), default=0)
        self._owners = np.full((most, len(every)), -1, dtype=np.int64)
        for number, places in enumerate(owners.values()):
            self._owners[: len(places), number] = places

    def mark(self, lines: pl.Series, found: NDArray[np.bool_]) -> None:
        """Sets `found[place, row]` where a pattern of the place stands in the row's line."""
        if self._row:
            hits = lines.to_frame().select(self._hits)
            counts = hits.to_series().list.len().fill_null(0).to_numpy()
            self._mark(self._numbers_of(hits), np.repeat(np.arange(len(lines)), counts), found)

    def mark_rows_of(self, line: pl.Series, found: NDArray[np.bool_]) -> None:
        """`mark` for one line of many rows, as String or Binary, `ROW` between two."""
        if self._row:
            numbers = self._numbers_of(line.to_frame().select(self._hits))  # by where each ends
            self._mark(numbers, np.cumsum(numbers == self._row), found)

    def _numbers_of(self, hits: pl.DataFrame) -> NDArray[np.uint32]:
        return hits.select(self._numbers).to_series().to_numpy()

    def _mark(self, numbers: NDArray[np.uint32], rows: NDArray[np.int64], found: NDArray[np.bool_]) -> None:
        for owners in self._owners:
            owner = owners[numbers]
            owned = owner >= 0
            numbers, rows = numbers[owned], rows[owned]
            found[owner[owned], rows] = True


def plain_patterns(line: str) -> tuple[list[str], bool]:
    """What shows a keyword in a line of plain texts, and whether it is the keyword for certain.

    Where the keyword has signs, between which there may be spaces or not, it is words of it that are looked for.

    Args:
        line: the keyword as `keyword_patterns` has it.
    """
    code = plain_code(line.strip())
    if code is None:
        return [], True
    if SIGN not in code:
        return list(whole_words(code)), True
    words = max((part.strip() for part in code.split(SIGN)), key=len)
    return (list(whole_words(words)) if words else [SIGN]), False


def distinct_languages(rules: Iterable[KeywordRule]) -> list[str]:
    """The languages that rules stem by, in order."""
    return sorted({rule.stem for rule in rules if rule.stem})

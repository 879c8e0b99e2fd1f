"""Finds keywords, and the words that regexes need, in one pass of an Aho-Corasick automaton over lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kommuna.errors import RulesError
from kommuna.spec.rules import KeywordRule
from kommuna.steps.labeling.rules.text.byte_codes import ROW, SIGN, encoded, whole_word_codes
from kommuna.steps.labeling.rules.text.stems import stem_keyword, stem_pattern
from kommuna.steps.labeling.rules.text.tokens import keyword_line


def keyword_patterns(rule: KeywordRule) -> list[str]:
    """Returns a rule's keywords as substrings of a token line, or of a line of stems if the rule has a language.

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
    """Searches for many patterns at once. Several owners, numbered from 0, may share a pattern.

    Args:
        patterns: the patterns of each owner; an empty string is not a pattern.
    """

    def __init__(self, patterns: Mapping[int, Iterable[str]]) -> None:
        owners: dict[str, list[int]] = {}
        for owner, own in patterns.items():
            for pattern in dict.fromkeys(own):
                owners.setdefault(pattern, []).append(owner)
        # Each expression is built once and combines several operations: every call of Polars switches threads.
        every = [*owners, ROW]
        self._hits = pl.all().cast(pl.String).str.extract_many(every, overlapping=True)
        flat = pl.all().explode(empty_as_null=False, keep_nulls=False)
        self._numbers = flat.cast(pl.Enum(every)).to_physical().cast(pl.UInt32)
        self._row = len(owners)
        # Line k holds the k-th owner of each pattern; -1 where there is none, as for ROW.
        most = max(map(len, owners.values()), default=0)
        self._owners = np.full((most, len(every)), -1, dtype=np.int64)
        for number, own_owners in enumerate(owners.values()):
            self._owners[: len(own_owners), number] = own_owners

    def mark(self, lines: pl.Series, found: NDArray[np.bool_]) -> None:
        """Sets `found[owner, row]` where the row's line contains a pattern of the owner.

        Args:
            lines: n String or Binary lines, one per row.
            found: `owners x n`; it is changed.
        """
        if self._row:
            hits = lines.to_frame().select(self._hits)
            counts = hits.to_series().list.len().fill_null(0).to_numpy()
            self._mark(self._numbers_of(hits), np.repeat(np.arange(len(lines)), counts), found)

    def mark_joined(self, line: pl.Series, found: NDArray[np.bool_]) -> None:
        """Sets `found[owner, row]` for rows that are joined to one String or Binary, separated by `ROW`.

        Args:
            line: one value with all rows.
            found: `owners x n`; it is changed.
        """
        if self._row:
            numbers = self._numbers_of(line.to_frame().select(self._hits))  # ordered by where each hit ends
            self._mark(numbers, np.cumsum(numbers == self._row), found)

    def _numbers_of(self, hits: pl.DataFrame) -> NDArray[np.uint32]:
        return hits.select(self._numbers).to_series().to_numpy()

    def _mark(self, numbers: NDArray[np.uint32], rows: NDArray[np.int64], found: NDArray[np.bool_]) -> None:
        for owners in self._owners:
            owner = owners[numbers]
            owned = owner >= 0
            numbers, rows = numbers[owned], rows[owned]
            found[owner[owned], rows] = True


def encoded_patterns(line: str) -> tuple[list[str], bool]:
    """Returns patterns of a keyword for `encoded_line`, and whether a hit proves that the text has the keyword.

    A keyword with signs is not proved: its signs may be separated by spaces or not, and all signs have one code. Its
    longest run of words is searched for instead.

    Args:
        line: the keyword, from `keyword_patterns`.
    """
    code = encoded(line.strip())
    if code is None:
        return [], True
    if SIGN not in code:
        return list(whole_word_codes(code)), True
    words = max((part.strip() for part in code.split(SIGN)), key=len)
    return (list(whole_word_codes(words)) if words else [SIGN]), False


def distinct_languages(rules: Iterable[KeywordRule]) -> list[str]:
    """Returns the languages whose stems the rules compare, sorted."""
    return sorted({rule.stem for rule in rules if rule.stem})

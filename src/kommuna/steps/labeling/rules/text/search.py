"""Evaluates keyword and regex rules: one pass over the texts finds all keywords and the words that regexes need.

The pass searches many texts as one encoded line (`encoded_line`). Texts that have no code, and texts with words of a
keyword with signs, are searched again by their token lines (`token_lines`).

A regex then runs only on the texts that contain its words (`needed_words`), a few percent of them for most rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kommuna.spec.rules import KeywordRule, RegexRule, Rule
from kommuna.steps.labeling.rules.text.automaton import (
    Automaton,
    distinct_languages,
    encoded_patterns,
    keyword_patterns,
)
from kommuna.steps.labeling.rules.text.byte_codes import NEUTRAL, NO_CODE, encoded, encoded_line
from kommuna.steps.labeling.rules.text.regex import polars_pattern, python_only, regex_search
from kommuna.steps.labeling.rules.text.regex_prefilter import needed_words
from kommuna.steps.labeling.rules.text.stems import stem_keyword, stem_lines
from kommuna.steps.labeling.rules.text.tokens import rare_rows, token_lines

_MOST_BYTES = 1 << 19  # the largest size of texts in one line: its few copies then stay in the processor's cache
_MOST_TEXTS = 0.5  # the largest share of texts that a regex runs on separately; above it, it runs on all texts


@dataclass(frozen=True)
class _Regex:
    """A regex rule: its index among the rules, and the lines of the table of hits with its sets of words."""

    index: int
    rule: RegexRule
    needs: tuple[int, ...]
    search: Callable[[pl.Series], pl.Series]

    @property
    def by_polars(self) -> bool:
        return python_only(self.rule.regex) is None

    def fires(self, rows: NDArray[np.int64] | None) -> pl.Expr:
        """Whether the rule fires on some rows (None: all) of a table's only column: one row with a Boolean List."""
        texts = pl.all() if rows is None else pl.all().gather(pl.Series(rows, dtype=pl.UInt32))
        fires = texts.str.contains(polars_pattern(self.rule.regex))
        return fires.fill_null(False).implode().alias(str(self.index))

    def rows(self, not_neutral: NDArray[np.bool_], found: NDArray[np.bool_]) -> NDArray[np.int64] | None:
        """Returns the rows on which the rule may fire; None: all."""
        if not self.needs:
            return None
        rows = np.flatnonzero(np.logical_and.reduce([found[need] for need in self.needs]) | not_neutral)
        return rows if len(rows) <= _MOST_TEXTS * len(not_neutral) else None


def text_hits(rules: Sequence[Rule], text: pl.Expr, *, prefix: str = "") -> pl.Expr:
    """Returns one expression for where rules of the kinds `any` and `regex` fire.

    Args:
        rules: the rules.
        text: the String column.
        prefix: precedes the rules' names in the names of the fields.

    Returns:
        A Struct with one Boolean field per rule; false where the text is null.

    Raises:
        RulesError: a rule cannot be applied; the message names it.
    """
    names = [prefix + rule.name for rule in rules]
    search = _TextSearch(rules)

    def hits(texts: pl.Series) -> pl.Series:
        found = search.found(texts)
        return pl.DataFrame({name: found[j] for j, name in enumerate(names)}).to_struct()

    dtype = pl.Struct(dict.fromkeys(names, pl.Boolean))
    return text.map_batches(hits, return_dtype=dtype, is_elementwise=True)


class _TextSearch:
    """Searches texts for what some rules look for; the automata are built once.

    Hits are a table with one line per rule, then one per set of words that a regex needs, then one that says which
    texts have to be searched again by their token lines.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        codes: dict[int, list[str]] = {}
        lines: dict[int, list[str]] = {}
        keyword_rules = [rule for rule in rules if isinstance(rule, KeywordRule)]
        self._languages = distinct_languages(keyword_rules)
        stemmed: dict[str, dict[int, list[str]]] = {language: {} for language in self._languages}
        self._regexes: list[_Regex] = []
        self._lines_of_hits = len(rules)
        again = [NO_CODE]
        for index, rule in enumerate(rules):
            if isinstance(rule, KeywordRule) and rule.stem:
                stemmed[rule.stem][index] = keyword_patterns(rule)
            elif isinstance(rule, KeywordRule):
                lines[index] = keyword_patterns(rule)
                keywords = [encoded_patterns(line) for line in lines[index]]
                codes[index] = [pattern for patterns, proved in keywords if proved for pattern in patterns]
                again += [pattern for patterns, proved in keywords if not proved for pattern in patterns]
            elif isinstance(rule, RegexRule):
                sets = needed_words(rule.regex)
                needs = range(self._lines_of_hits, self._lines_of_hits + len(sets))
                self._regexes.append(_Regex(index, rule, tuple(needs), regex_search(rule)))
                lines |= {need: sorted(words) for need, words in zip(needs, sets, strict=True)}
                codes |= {need: [code for word in lines[need] if (code := encoded(word))] for need in needs}
                self._lines_of_hits += len(sets)
        self._again = self._lines_of_hits
        self._encoded = Automaton(codes | {self._again: again})
        self._lines = Automaton(lines)
        self._stemmed = {language: Automaton(patterns) for language, patterns in stemmed.items()}
        self._stems = {language: _stems(keyword_rules, language) for language in stemmed}

    def found(self, texts: pl.Series) -> NDArray[np.bool_]:
        """Returns the table of hits; its first lines say where each rule fires."""
        found = np.zeros((self._lines_of_hits + 1, len(texts)), dtype=np.bool_)
        for first, end in _parts(texts):
            self._encoded.mark_joined(encoded_line(texts.slice(first, end - first)), found[:, first:end])
        not_neutral = self._search_again(texts, np.flatnonzero(found[self._again]), found)
        if self._stemmed:
            lines = token_lines(texts, rare_rows(texts))
            for language, automaton in self._stemmed.items():
                automaton.mark(stem_lines(lines, language, self._stems[language]), found)
        self._search_regexes(texts, not_neutral, found)
        return found

    def _search_again(self, texts: pl.Series, rows: NDArray[np.int64], found: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Replaces the hits of some rows by those of their token lines; returns which texts are not `NEUTRAL`."""
        not_neutral = np.zeros(len(texts), dtype=np.bool_)
        if len(rows):
            some = texts.gather(rows)
            own = np.zeros((len(found), len(rows)), dtype=np.bool_)
            self._lines.mark(token_lines(some, rare_rows(some)), own)
            found[:, rows] = own
            not_neutral[rows] = some.str.contains(rf"[^{NEUTRAL}]").to_numpy()
        return not_neutral

    def _search_regexes(self, texts: pl.Series, not_neutral: NDArray[np.bool_], found: NDArray[np.bool_]) -> None:
        """Marks where regexes fire; all regexes of Polars' engine run in one query."""
        rows = {one.index: one.rows(not_neutral, found) for one in self._regexes}
        at_once = texts.to_frame().select(one.fires(rows[one.index]) for one in self._regexes if one.by_polars)
        for one in self._regexes:
            where = rows[one.index]
            if one.by_polars:
                fired = at_once[str(one.index)][0]
            else:
                fired = one.search(texts if where is None else texts.gather(where)).fill_null(False)
            hits = fired.to_numpy().nonzero()[0]
            found[one.index, hits if where is None else where[hits]] = True


def _parts(texts: pl.Series) -> Iterator[tuple[int, int]]:
    """Yields the first row and the end of parts with about `_MOST_BYTES` of text each."""
    part = texts.str.len_bytes().fill_null(0).cast(pl.Int64).cum_sum() // _MOST_BYTES
    inner = (part.diff().fill_null(0) > 0).arg_true().to_list()
    return pairwise([0, *inner, len(texts)]) if len(texts) else iter(())


def _stems(rules: Sequence[KeywordRule], language: str) -> frozenset[str]:
    """Returns the stems of the keywords of all rules of a language."""
    keywords = [keyword for rule in rules if rule.stem == language for keyword in rule.any]
    return frozenset(stem for keyword in keywords for stem in stem_keyword(language, keyword))

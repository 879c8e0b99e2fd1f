"""Rules that look at the text: one pass finds every keyword and every word that a regex needs.

Plain texts are looked through as one line (`plain`). Where that may not tell, in odd texts and for keywords with signs,
the text's own token line does (`fold`).

A regex then runs on the texts alone that hold its words (`needed_words`), which is a few of a hundred for most rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kommuna.spec.rules import KeywordRule, RegexRule, Rule
from kommuna.steps.labeling.rules.text.automaton import Automaton, distinct_languages, keyword_patterns, plain_patterns
from kommuna.steps.labeling.rules.text.byte_codes import ODD, UNDISTURBED, plain_code, plain_line
from kommuna.steps.labeling.rules.text.regex import polars_pattern, python_only, regex_search
from kommuna.steps.labeling.rules.text.regex_prefilter import needed_words
from kommuna.steps.labeling.rules.text.stems import stem_keyword, stem_lines
from kommuna.steps.labeling.rules.text.tokens import rare_rows, token_lines

_MOST_BYTES = 1 << 19  # of texts in one line: some copies of it are made, which then stay in the processor's cache
_MOST_TEXTS = 0.5  # of all; a regex that may fire on more runs on all


@dataclass(frozen=True)
class _Regex:
    """A regex rule: its place among the rules, and where its sets of words are marked."""

    place: int
    rule: RegexRule
    needs: tuple[int, ...]
    search: Callable[[pl.Series], pl.Series]

    @property
    def by_polars(self) -> bool:
        return python_only(self.rule.regex) is None

    def fires(self, rows: NDArray[np.int64] | None) -> pl.Expr:
        """Whether it fires on some rows, or all, of the only column: a Boolean List in one row."""
        texts = pl.all() if rows is None else pl.all().gather(pl.Series(rows, dtype=pl.UInt32))
        fires = texts.str.contains(polars_pattern(self.rule.regex))
        return fires.fill_null(False).implode().alias(str(self.place))

    def rows(self, disturbed: NDArray[np.bool_], found: NDArray[np.bool_]) -> NDArray[np.int64] | None:
        """The rows on which it may fire; None is all."""
        if not self.needs:
            return None
        rows = np.flatnonzero(np.logical_and.reduce([found[need] for need in self.needs]) | disturbed)
        return rows if len(rows) <= _MOST_TEXTS * len(disturbed) else None


def text_hits(rules: Sequence[Rule], text: pl.Expr, *, prefix: str = "") -> pl.Expr:
    """Which rules of the kinds `any` and `regex` fire, as one expression.

    Args:
        rules: the rules.
        text: the String column.
        prefix: of the fields' names.

    Returns:
        A Struct with one Boolean field a rule, named as the rule after the prefix; false where the text is null.

    Raises:
        RulesError: a rule cannot be applied; the message names it.
    """
    names = [prefix + rule.name for rule in rules]
    search = _Search(rules)

    def hits(texts: pl.Series) -> pl.Series:
        found = search.found(texts)
        return pl.DataFrame({name: found[j] for j, name in enumerate(names)}).to_struct()

    dtype = pl.Struct(dict.fromkeys(names, pl.Boolean))
    return text.map_batches(hits, return_dtype=dtype, is_elementwise=True)


class _Search:
    """All that is looked for, made ready once."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        plain: dict[int, list[str]] = {}
        lines: dict[int, list[str]] = {}
        keyword_rules = [rule for rule in rules if isinstance(rule, KeywordRule)]
        self._languages = distinct_languages(keyword_rules)
        stemmed: dict[str, dict[int, list[str]]] = {language: {} for language in self._languages}
        self._regexes: list[_Regex] = []
        self._places = len(rules)
        closer = [ODD]
        for place, rule in enumerate(rules):
            if isinstance(rule, KeywordRule) and rule.stem:
                stemmed[rule.stem][place] = keyword_patterns(rule)
            elif isinstance(rule, KeywordRule):
                lines[place] = keyword_patterns(rule)
                shown = [plain_patterns(line) for line in lines[place]]
                plain[place] = [pattern for patterns, certain in shown if certain for pattern in patterns]
                closer += [pattern for patterns, certain in shown if not certain for pattern in patterns]
            elif isinstance(rule, RegexRule):
                sets = needed_words(rule.regex)
                needs = range(self._places, self._places + len(sets))
                self._regexes.append(_Regex(place, rule, tuple(needs), regex_search(rule)))
                lines |= {need: sorted(words) for need, words in zip(needs, sets, strict=True)}
                plain |= {need: [code for word in lines[need] if (code := plain_code(word))] for need in needs}
                self._places += len(sets)
        self._closer = self._places
        self._plain = Automaton(plain | {self._closer: closer})
        self._lines = Automaton(lines)
        self._stemmed = {language: Automaton(patterns) for language, patterns in stemmed.items()}
        self._wanted = {language: _wanted(keyword_rules, language) for language in stemmed}

    def found(self, texts: pl.Series) -> NDArray[np.bool_]:
        """Where rules fire: a line for each, and some more."""
        found = np.zeros((self._places + 1, len(texts)), dtype=np.bool_)
        for first, end in _parts(texts):
            self._plain.mark_rows_of(plain_line(texts.slice(first, end - first)), found[:, first:end])
        disturbed = self._look_closer(texts, np.flatnonzero(found[self._closer]), found)
        if self._stemmed:
            lines = token_lines(texts, rare_rows(texts))
            for language, automaton in self._stemmed.items():
                automaton.mark(stem_lines(lines, language, self._wanted[language]), found)
        self._search(texts, disturbed, found)
        return found

    def _look_closer(self, texts: pl.Series, rows: NDArray[np.int64], found: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Marks some rows anew by their token lines; returns where regexes may match without the words they need."""
        disturbed = np.zeros(len(texts), dtype=np.bool_)
        if len(rows):
            some = texts.gather(rows)
            own = np.zeros((len(found), len(rows)), dtype=np.bool_)
            self._lines.mark(token_lines(some, rare_rows(some)), own)
            found[:, rows] = own
            disturbed[rows] = some.str.contains(rf"[^{UNDISTURBED}]").to_numpy()
        return disturbed

    def _search(self, texts: pl.Series, disturbed: NDArray[np.bool_], found: NDArray[np.bool_]) -> None:
        """Marks where regexes fire, those of Polars' engine all at once."""
        rows = {one.place: one.rows(disturbed, found) for one in self._regexes}
        at_once = texts.to_frame().select(one.fires(rows[one.place]) for one in self._regexes if one.by_polars)
        for one in self._regexes:
            where = rows[one.place]
            if one.by_polars:
                fired = at_once[str(one.place)][0]
            else:
                fired = one.search(texts if where is None else texts.gather(where)).fill_null(False)
            hits = fired.to_numpy().nonzero()[0]
            found[one.place, hits if where is None else where[hits]] = True


def _parts(texts: pl.Series) -> Iterator[tuple[int, int]]:
    """First row and end of parts of some `_MOST_BYTES` each, however long the texts are."""
    part = texts.str.len_bytes().fill_null(0).cast(pl.Int64).cum_sum() // _MOST_BYTES
    inner = (part.diff().fill_null(0) > 0).arg_true().to_list()
    return pairwise([0, *inner, len(texts)]) if len(texts) else iter(())


def _wanted(rules: Sequence[KeywordRule], language: str) -> frozenset[str]:
    keywords = [keyword for rule in rules if rule.stem == language for keyword in rule.any]
    return frozenset(stem for keyword in keywords for stem in stem_keyword(language, keyword))

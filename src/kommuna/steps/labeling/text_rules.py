"""Rules that look at the text: one pass finds every keyword and every word that a regex needs.

A regex then runs on the texts alone that hold its words (`needed_words`), which is a few of a hundred for most rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kommuna.spec.rules import Rule
from kommuna.steps.labeling.fold import rare_rows, token_lines
from kommuna.steps.labeling.keywords import Automaton, distinct_languages, keyword_patterns
from kommuna.steps.labeling.regex_words import needed_words
from kommuna.steps.labeling.regexes import regex_search
from kommuna.steps.labeling.stems import stem_keyword, stem_lines

# Characters next to which folding leaves a Latin or Cyrillic letter as it is: no marks that compose with it, no
# letters that are another case of it. Elsewhere a text may match a pattern whose words folding does not show.
UNDISTURBED = (
    r"\x00-\x7f\xa0-\xa7\xa9-\xae\xb0-\xb3\xb6\xb7\xb9-\xff\u0400-\u0481\u2010-\u2027\u2030-\u203a\u20a0-\u20bf"
    r"\u2116\u2190-\u21ff\u2600-\u27bf\ufe0f\x{1f300}-\x{1faff}"
)
_MOST_TEXTS = 0.5  # of all; a regex that may fire on more runs on all


@dataclass(frozen=True)
class _Regex:
    """A regex rule: its place among the rules, and where its sets of words are marked."""

    place: int
    search: Callable[[pl.Series], pl.Series]
    needs: tuple[int, ...]


def text_hits(rules: Sequence[Rule], text: pl.Expr) -> pl.Expr:
    """Which rules of the kinds `any` and `regex` fire, as one expression.

    Args:
        rules: the rules.
        text: the String column.
    Returns:
        A Struct with one Boolean field a rule, named as the rule; false where the text is null.
    Raises:
        RulesError: a rule cannot be applied; the message names it.
    """
    names = [rule.name for rule in rules]
    plain: dict[int, list[str]] = {}
    stemmed: dict[str, dict[int, list[str]]] = {language: {} for language in distinct_languages(rules)}
    regexes: list[_Regex] = []
    places = len(rules)
    for place, rule in enumerate(rules):
        if rule.kind == "any":
            (stemmed[rule.stem] if rule.stem else plain)[place] = keyword_patterns(rule)
            continue
        sets = needed_words(rule.regex or "")
        regexes.append(_Regex(place, regex_search(rule), tuple(range(places, places + len(sets)))))
        plain |= {places + i: sorted(words) for i, words in enumerate(sets)}
        places += len(sets)
    automaton = Automaton(plain)
    of_stems = {language: Automaton(patterns) for language, patterns in stemmed.items()}
    wanted = {language: _wanted(rules, language) for language in stemmed}

    def hits(texts: pl.Series) -> pl.Series:
        rare = rare_rows(texts)
        lines = token_lines(texts, rare)
        found = np.zeros((places, len(texts)), dtype=np.bool_)
        automaton.mark(lines, found)
        for language, own in of_stems.items():
            own.mark(stem_lines(lines, language, wanted[language]), found)
        if regexes:
            disturbed = np.zeros(len(texts), dtype=np.bool_)
            disturbed[rare.to_numpy()] = texts.gather(rare).str.contains(rf"[^{UNDISTURBED}]").to_numpy()
            for one in regexes:
                _search(one, texts, disturbed, found)
        return pl.DataFrame({name: found[j] for j, name in enumerate(names)}).to_struct()

    dtype = pl.Struct(dict.fromkeys(names, pl.Boolean))
    return text.map_batches(hits, return_dtype=dtype, is_elementwise=True)


def _search(one: _Regex, texts: pl.Series, disturbed: NDArray[np.bool_], found: NDArray[np.bool_]) -> None:
    if one.needs:
        rows = np.flatnonzero(found[list(one.needs)].all(axis=0) | disturbed)
        if len(rows) <= _MOST_TEXTS * len(texts):
            matched = one.search(texts.gather(rows)).fill_null(False).to_numpy()
            found[one.place, rows[matched]] = True
            return
    found[one.place] = one.search(texts).fill_null(False).to_numpy()


def _wanted(rules: Sequence[Rule], language: str) -> frozenset[str]:
    keywords = [keyword for rule in rules if rule.stem == language for keyword in rule.any or ()]
    return frozenset(stem for keyword in keywords for stem in stem_keyword(language, keyword))

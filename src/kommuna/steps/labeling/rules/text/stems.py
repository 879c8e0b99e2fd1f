"""Stems words by language (Snowball), so that a keyword is found in any of its word forms."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import polars as pl
import snowballstemmer

from kommuna.steps.labeling.rules.text.tokens import tokens

_MARK = "\ue000"  # precedes a stem in a line; a private-use character, which token lines have only between spaces
_LOCK = threading.Lock()  # a stemmer is not thread-safe: it keeps its word in its state


@lru_cache(maxsize=200_000)
def stem(language: str, word: str) -> str:
    """Returns the stem of one folded word.

    Args:
        language: a language of Snowball, such as `russian`.
        word: a word in normal form.

    >>> stem("russian", "картами"), stem("russian", "карта"), stem("english", "stolen")
    ('карт', 'карт', 'stolen')
    """
    with _LOCK:
        return str(_stemmer(language).stemWord(word))


def stem_keyword(language: str, keyword: str) -> list[str]:
    """Returns the stems of a keyword's tokens.

    >>> stem_keyword("english", "Lost cards?")
    ['lost', 'card', '?']
    """
    return [stem(language, token) for token in tokens(keyword)]


def stem_pattern(stems: Sequence[str]) -> str:
    """Joins stems as `stem_lines` writes them; empty if there are none."""
    return "".join(f" {_MARK}{stem} " for stem in stems)


def stem_lines(lines: pl.Series, language: str, stems: frozenset[str]) -> pl.Series:
    """Replaces words by their marked stems in token lines.

    Each distinct word is stemmed once, not once per row.

    Args:
        lines: the result of `token_lines`.
        language: the language of the stemmer.
        stems: the stems to search for; words with other stems stay as they are.
    """
    words = lines.str.split(" ").explode(empty_as_null=True).drop_nulls().unique()
    found = {word: own for word in words if word and (own := stem(language, word)) in stems}
    apart = lines.str.replace_all(" ", "  ", literal=True)  # each word then has a space of its own on both sides
    if not found:
        return apart
    return apart.str.replace_many([f" {word} " for word in found], [f" {_MARK}{own} " for own in found.values()])


@lru_cache
def _stemmer(language: str) -> Any:
    return snowballstemmer.stemmer(language)

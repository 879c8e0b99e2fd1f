"""Explains predictions: what each word of a text adds to a tag's score, and the rules that voted."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kommuna.steps.text import WORD
from kommuna.steps.tfidf import PartTfidf
from kommuna.steps.training.features.tfidf import TextFeatures, normalise
from kommuna.steps.training.fit.soft_logistic import Linear, Matrix

MOST_OCCLUDED = 60  # distinct words of one text that are left out in turn
_WORD = re.compile(f"{WORD}+")

Words = dict[str, float]


@dataclass(frozen=True)
class Explanation:
    """Why one row got a tag.

    Attributes:
        tag: what is explained.
        confidence: the tag's probability.
        words: each word and what it adds to the tag's score over the mean tag (with several tags per row: over "not
            this tag"), in log-odds, the strongest first.
        rules: the rules that voted, with their votes; empty without votes.
    """

    tag: str
    confidence: float
    words: tuple[tuple[str, float], ...]
    rules: tuple[tuple[str, str], ...] = ()


def linear_words(text: str, features: TextFeatures, coef: NDArray[np.float32]) -> Words:
    """Returns what each word adds to a linear score, exactly: the values sum to `features @ coef`.

    A term's contribution is divided among its words: in halves for a pair, among the words with it for an n-gram of
    characters.

    Args:
        text: one text.
        features: fitted.
        coef: `p`, of one tag.
    """
    out: Words = defaultdict(float)
    row = features.transform([text])
    parts = dict(zip(row.indices.tolist(), (row.data * coef[row.indices]).tolist(), strict=True))
    words_of = _words_of_columns(normalise(text), features)
    for column, part in parts.items():
        total = sum(words_of[column].values())
        for word, times in words_of[column].items():
            out[word] += part * times / total
    return dict(out)


def occluded_words(text: str, score: Callable[[list[str]], NDArray[np.float32]]) -> Words:
    """Returns what a score loses when each word is left out (Zeiler and Fergus 2014), for any model.

    Args:
        text: one text; only its first `MOST_OCCLUDED` distinct words are left out.
        score: scores of texts.
    """
    words = list(dict.fromkeys(_WORD.findall(normalise(text))))[:MOST_OCCLUDED]
    without = [re.sub(rf"(?<!{WORD}){re.escape(word)}(?!{WORD})", " ", normalise(text)) for word in words]
    if not words:
        return {}
    whole, *rest = score([normalise(text), *without]).tolist()
    return {word: whole - one for word, one in zip(words, rest, strict=True)}


def above_mean(coef: Matrix, column: int) -> NDArray[np.float32]:
    """Returns a tag's weights minus the mean over tags: softmax ignores what all tags share.

    Args:
        coef: `… x k` weights.
        column: the tag's index.
    """
    return np.asarray(coef[..., column] - coef.mean(axis=-1), dtype=np.float32)


def contribution(model: Linear, column: int, *, softmax: bool) -> NDArray[np.float32]:
    """Returns the `p` weights with which a row's features add to a tag's score.

    Args:
        model: `p` features, `k` tags.
        column: the tag's index.
        softmax: whether the scores become probabilities by softmax; the mean over tags then has no effect.
    """
    return above_mean(model.coef, column) if softmax else np.asarray(model.coef[:, column])


def rules_with_votes(votes: pl.DataFrame, key: str) -> list[tuple[tuple[str, str], ...]]:
    """Returns, for each row of votes, the rules that voted, with their votes."""
    rules = [name for name in votes.columns if name != key]
    return [
        tuple((rule, _vote_text(value)) for rule, value in zip(rules, row, strict=True) if value is not None)
        for row in votes.select(rules).iter_rows()
    ]


def _vote_text(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(one) for one in value)
    return str(value)


def _words_of_columns(text: str, features: TextFeatures) -> dict[int, Counter[str]]:
    """Returns, for each feature column of a text, the words that it comes from and how often."""
    words_of: dict[int, Counter[str]] = defaultdict(Counter)
    for first, kind in features.kinds():
        column_of = kind.column_of
        if isinstance(kind, PartTfidf):
            for chunk in text.split():
                words: Sequence[str] = _WORD.findall(chunk) or [chunk]
                for term in kind.parts(chunk):
                    if term in column_of:
                        inside = [word for word in words if term.strip() in word] or words
                        words_of[first + column_of[term]].update(dict.fromkeys(inside, 1))
            continue
        tokens = _WORD.findall(text)
        for i, word in enumerate(tokens):
            for term in (word, f"{word} {tokens[i + 1]}") if i + 1 < len(tokens) else (word,):
                if term in column_of:
                    words_of[first + column_of[term]].update(term.split())
    return words_of

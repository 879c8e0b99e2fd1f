"""Phrases and pairs of words: what a mined rule may look for, and on which rows each is found."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from kommuna.steps.labeling.fold import keyword_line, rare_rows, token_lines

_LONGEST = 3  # words of a phrase
_LEAST_ROWS = 3  # dev rows that a phrase or pair stands in: two are left where a fold is held out
_MOST_PHRASES = 30_000
_MOST_PAIR_WORDS = 1_000
_BATCH = 100_000  # messages looked through at once: bounds memory
_YO = re.compile(r"\w*ё\w*")
_WORD = re.compile(r"[^\W_]\w*(?: ' \w+)*")


@dataclass(frozen=True)
class Findings:
    """c conditions and where they hold.

    Attributes:
        conditions: c, each a phrase (one string) or a pair of words.
        dev: d x c, 1 where the condition holds.
        seen: c, unlabeled messages on which it holds.
        messages: how many unlabeled messages there are.
        with_yo: words that dev rows spell with ё, folded: with е.
    """

    conditions: list[str | tuple[str, str]]
    dev: sparse.csr_array
    seen: NDArray[np.int64]
    messages: int
    with_yo: frozenset[str] = frozenset()

    def looked_for(self, column: int) -> str:
        """A condition as a rule has it: the phrase, or a regular expression for both words in either order."""
        condition = self.conditions[column]
        if isinstance(condition, str):
            return condition
        one, other = (re.sub("е", "[её]", word) if word in self.with_yo else word for word in map(re.escape, condition))
        return rf"\b{one}\b.*\b{other}\b|\b{other}\b.*\b{one}\b"

    def of(self, rows: NDArray[np.intp]) -> Findings:
        """On some of the dev rows."""
        return replace(self, dev=self.dev[rows])

    def __len__(self) -> int:
        return len(self.conditions)


def find_phrases(dev: pl.Series, messages: pl.LazyFrame, text: str) -> Findings:
    """Every phrase of one to three words that stands in three dev rows or more, and every pair of their words.

    Messages are read in batches; what is kept of them are counts.

    Args:
        dev: d texts.
        messages: the unlabeled messages.
        text: their column with the text.
    """
    lines = _lines(dev.fill_null(""))
    phrases = _vocabulary(lines)
    needles = [keyword_line(phrase) for phrase in phrases]
    in_dev = _held(lines, needles)
    words = _pair_words(phrases, in_dev)
    pairs, pairs_in_dev = _pairs(in_dev[:, words])
    seen, together, rows = _count(messages, text, needles, words)
    pair_names = [(phrases[words[a]], phrases[words[b]]) for a, b in pairs]
    a, b = pairs[:, 0], pairs[:, 1]
    return Findings(
        [*phrases, *pair_names],
        sparse.csr_array(sparse.hstack([in_dev, pairs_in_dev])),
        np.concatenate([seen, together[a, b]]).astype(np.int64),
        rows,
        frozenset(word.replace("ё", "е") for text in dev.drop_nulls() for word in _YO.findall(text.lower())),
    )


def _lines(texts: pl.Series) -> pl.Series:
    return token_lines(texts, rare_rows(texts))


def _vocabulary(lines: Iterable[str]) -> list[str]:
    """The most frequent phrases; no phrase reaches over a comma or any other sign."""
    found: Counter[str] = Counter()
    for line in lines:
        found.update(_phrases_of(line))
    often = [(phrase, rows) for phrase, rows in found.items() if rows >= _LEAST_ROWS]
    often.sort(key=lambda item: (-item[1], item[0]))
    return [phrase for phrase, _ in often[:_MOST_PHRASES]]


def _phrases_of(line: str) -> set[str]:
    """
    >>> sorted(_phrases_of(" i don ' t know , why "))
    ["don't", "don't know", 'i', "i don't", "i don't know", 'know', 'why']
    """
    phrases: set[str] = set()
    run: list[str] = []
    ended = 0
    for match in _WORD.finditer(line):
        if line[ended : match.start()].strip():
            run = []
        ended = match.end()
        run = [*run, match[0].replace(" ' ", "'")][-_LONGEST:]
        phrases.update(" ".join(run[start:]) for start in range(len(run)))
    return {phrase for phrase in phrases if not phrase.replace(" ", "").isdigit()}  # sums and dates tell nothing


def _held(lines: pl.Series, needles: list[str]) -> sparse.csr_array:
    """n x g: 1 where the phrase stands in the line."""
    if not needles:
        return sparse.csr_array((len(lines), 0), dtype=np.float32)
    found = lines.str.extract_many(needles, overlapping=True)
    rows = np.repeat(np.arange(len(lines)), found.list.len().to_numpy())
    names = found.explode(empty_as_null=False, keep_nulls=False).cast(pl.Enum(needles))
    held = sparse.csr_array(
        (np.ones(len(rows), dtype=np.float32), (rows, names.to_physical().to_numpy())), shape=(len(lines), len(needles))
    )
    held.sum_duplicates()
    held.data[:] = 1
    return held


def _pair_words(phrases: list[str], in_dev: sparse.csr_array) -> NDArray[np.intp]:
    """Single words of three letters or more, neither rare nor everywhere."""
    rows = np.asarray(in_dev.sum(axis=0))
    most = in_dev.shape[0] / 4
    fit = [j for j, phrase in enumerate(phrases) if " " not in phrase and len(phrase) > 2 and rows[j] <= most]
    return np.array(fit[:_MOST_PAIR_WORDS], dtype=np.intp)


def _pairs(words: sparse.csr_array) -> tuple[NDArray[np.intp], sparse.csr_array]:
    """The pairs of columns that meet in three rows or more, and where they do (d x p)."""
    meet = sparse.triu(words.T @ words, k=1).tocoo()
    often = meet.data >= _LEAST_ROWS
    pairs = np.stack([meet.row[often], meet.col[often]], axis=1).astype(np.intp)
    columns = words.tocsc()
    both = columns[:, pairs[:, 0]].multiply(columns[:, pairs[:, 1]])
    return pairs, sparse.csr_array(both)


def _count(
    messages: pl.LazyFrame, text: str, needles: list[str], words: NDArray[np.intp]
) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
    """Messages that hold each phrase, messages that hold each two words, and messages in all."""
    seen = np.zeros(len(needles), dtype=np.int64)
    together = np.zeros((len(words), len(words)), dtype=np.float32)
    rows = 0
    plan = messages.select(pl.col(text).fill_null(""))
    for batch in plan.collect_batches(chunk_size=_BATCH, maintain_order=False, lazy=True, engine="streaming"):
        held = _held(_lines(batch[text]), needles)
        seen += np.asarray(held.sum(axis=0)).astype(np.int64)
        here = held[:, words]
        together += (here.T @ here).toarray()
        rows += batch.height
    return seen, together, rows

"""Phrases and pairs of words: what a mined rule may look for, and on which rows each is found."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from kommuna.steps.labeling.refine.mining.stop_words import Stemmed, language_of, stop_words_alone
from kommuna.steps.labeling.rules.text.stems import stem, stem_keyword, stem_lines, stem_pattern
from kommuna.steps.labeling.rules.text.tokens import keyword_line, rare_rows, token_lines
from kommuna.steps.text import fold

_LONGEST = 3  # words of a phrase
_LEAST_ROWS = 2  # dev rows that a pair stands in
_MOST_PHRASES = 30_000
_MOST_PAIR_WORDS = 1_000
_MOST_FORMS = 4  # forms of a word that a pair looks for
_BATCH = 100_000  # messages looked through at once: bounds memory
_YO = re.compile(r"\w*ё\w*")
_WORD = re.compile(r"[^\W_]\w*(?: ' \w+)*")

Forms = tuple[str, ...]


@dataclass(frozen=True)
class Findings:
    """c conditions and where they hold.

    Attributes:
        conditions: c, each a phrase (one string) or a pair of words, either with its forms.
        dev: d x c, 1 where the condition holds.
        sample: s x c, the same of the sample of messages.
        seen: c, unlabeled messages on which it holds.
        messages: how many unlabeled messages there are.
        language: words are the same where their stems in this language are; None: where they are spelt the same.
        with_yo: words that dev rows spell with ё, folded: with е.
    """

    conditions: list[str | tuple[Forms, Forms]]
    dev: sparse.csr_array
    sample: sparse.csr_array
    seen: NDArray[np.int64]
    messages: int
    language: Stemmed | None = None
    with_yo: frozenset[str] = frozenset()

    def looked_for(self, column: int) -> str:
        """A condition as a rule has it: the phrase, or a regular expression for both words in either order."""
        condition = self.conditions[column]
        if isinstance(condition, str):
            return condition
        one, other = (self._regex(forms) for forms in condition)
        return rf"\b{one}\b.*\b{other}\b|\b{other}\b.*\b{one}\b"

    def _regex(self, forms: Forms) -> str:
        spelt = [re.sub("е", "[её]", form) if form in self.with_yo else form for form in map(re.escape, forms)]
        return spelt[0] if len(spelt) == 1 else f"(?:{'|'.join(spelt)})"

    def __len__(self) -> int:
        return len(self.conditions)


def find_phrases(dev: pl.Series, sample: pl.Series, messages: pl.LazyFrame, text: str) -> Findings:
    """Every phrase of one to three words that stands in dev, and every pair of words that stands in two rows of it.

    Words are compared by their stems where the language of the dev rows is clear. Stop-words alone are no phrase and
    no pair. Messages are read in batches; what is kept of them are counts.

    Args:
        dev: d texts.
        sample: s texts, of unlabeled messages.
        messages: the unlabeled messages.
        text: their column with the text.
    """
    lines = _lines(dev.fill_null(""))
    language = language_of(word for line in lines for word in _words(line))
    phrases = _Phrases(_vocabulary(lines, language), language)
    words = _PairWords(_pair_words(lines, language))
    words_in_dev = words.held(lines)
    pairs = _pairs(words_in_dev)
    spoken = np.array([not stop_words_alone(forms[0]) for forms in words.forms], dtype=np.bool_)
    pairs = pairs[spoken[pairs].any(axis=1)]

    def held(lines: pl.Series, in_lines: sparse.csr_array) -> sparse.csr_array:
        columns = in_lines.tocsc()
        both = columns[:, pairs[:, 0]].multiply(columns[:, pairs[:, 1]])
        return sparse.csr_array(sparse.hstack([phrases.held(lines), both]))

    sampled = _lines(sample.fill_null(""))
    seen, together, rows = _count(messages, text, phrases, words)
    return Findings(
        [*phrases.phrases, *((words.forms[a], words.forms[b]) for a, b in pairs)],
        held(lines, words_in_dev),
        held(sampled, words.held(sampled)),
        np.concatenate([seen, together[pairs[:, 0], pairs[:, 1]]]).astype(np.int64),
        rows,
        language,
        frozenset(fold(word) for text in dev.drop_nulls() for word in _YO.findall(text.lower())),
    )


class _Phrases:
    """Phrases as they are looked for in lines."""

    def __init__(self, phrases: list[str], language: Stemmed | None) -> None:
        self.phrases = phrases
        self._language = language
        if language is None:
            self._needles = [keyword_line(phrase) for phrase in phrases]
        else:
            stems = [stem_keyword(language, phrase) for phrase in phrases]
            self._needles = [stem_pattern(own) for own in stems]
            self._wanted = frozenset(word for own in stems for word in own)

    def held(self, lines: pl.Series) -> sparse.csr_array:
        """n x g: 1 where the phrase stands in the line."""
        return _held(stem_lines(lines, self._language, self._wanted) if self._language else lines, self._needles)


class _PairWords:
    """Words, each with its forms, as they are looked for in lines."""

    def __init__(self, forms: list[Forms]) -> None:
        self.forms = forms
        spelt = [(form, word) for word, own in enumerate(forms) for form in own]
        self._needles = [f" {form} " for form, _ in spelt]
        ones, places = np.ones(len(spelt), dtype=np.float32), np.arange(len(spelt))
        word_of = np.array([word for _, word in spelt], dtype=np.intp)
        self._word = sparse.csr_array((ones, (places, word_of)), shape=(len(spelt), len(forms)))

    def held(self, lines: pl.Series) -> sparse.csr_array:
        """n x w: 1 where a form of the word stands in the line."""
        held = sparse.csr_array(_held(lines, self._needles) @ self._word)
        held.data[:] = 1
        return held


def _lines(texts: pl.Series) -> pl.Series:
    return token_lines(texts, rare_rows(texts))


def _words(line: str) -> Iterator[str]:
    return (match[0].replace(" ' ", "'") for match in _WORD.finditer(line))


def _vocabulary(lines: Iterable[str], language: Stemmed | None) -> list[str]:
    """The most frequent phrases, each in its most frequent form; no phrase reaches over a comma or any other sign."""
    rows: Counter[str] = Counter()
    forms: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for line in lines:
        own = {phrase: _stemmed(phrase, language) for phrase in _phrases_of(line)}
        rows.update(set(own.values()))
        for phrase, key in own.items():
            forms[key][phrase] += 1
    often = [(_commonest(forms[key], 1)[0], count) for key, count in rows.items()]
    often.sort(key=lambda item: (-item[1], item[0]))
    return [phrase for phrase, _ in often[:_MOST_PHRASES]]


def _stemmed(phrase: str, language: Stemmed | None) -> str:
    return " ".join(stem_keyword(language, phrase)) if language else phrase


def _commonest(forms: Counter[str], most: int) -> Forms:
    return tuple(sorted(forms, key=lambda form: (-forms[form], form))[:most])


def _phrases_of(line: str) -> set[str]:
    """Returns the phrases of up to `_LONGEST` words in a token line.

    >>> sorted(_phrases_of(" i don ' t know , why "))
    ["don't know", "i don't know", 'know']
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
    return {
        phrase
        for phrase in phrases
        if not phrase.replace(" ", "").isdigit() and not stop_words_alone(phrase)  # sums and dates tell nothing
    }


def _held(lines: pl.Series, needles: list[str]) -> sparse.csr_array:
    """n x g: 1 where the needle stands in the line."""
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


def _pair_words(lines: pl.Series, language: Stemmed | None) -> list[Forms]:
    """The most frequent words of three letters or more, neither rare nor everywhere, each in its commonest forms."""
    rows: Counter[str] = Counter()
    forms: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for line in lines:
        own = {word: stem(language, word) if language else word for word in set(line.split())}
        rows.update(set(own.values()))
        for word, key in own.items():
            forms[key][word] += 1
    fit = [
        (_commonest(forms[key], _MOST_FORMS), count)
        for key, count in rows.items()
        if _LEAST_ROWS <= count <= len(lines) / 4 and len(key) > 2 and key[0].isalpha()
    ]
    fit.sort(key=lambda item: (-item[1], item[0]))
    return [own for own, _ in fit[:_MOST_PAIR_WORDS]]


def _pairs(words: sparse.csr_array) -> NDArray[np.intp]:
    """The pairs of columns that meet in `_LEAST_ROWS` rows or more."""
    meet = sparse.triu(words.T @ words, k=1).tocoo()
    often = meet.data >= _LEAST_ROWS
    return np.stack([meet.row[often], meet.col[often]], axis=1).astype(np.intp)


def _count(
    messages: pl.LazyFrame, text: str, phrases: _Phrases, words: _PairWords
) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
    """Messages that hold each phrase, messages that hold each two words, and messages in all."""
    seen = np.zeros(len(phrases.phrases), dtype=np.int64)
    together = np.zeros((len(words.forms), len(words.forms)), dtype=np.float32)
    rows = 0
    plan = messages.select(pl.col(text).fill_null(""))
    for batch in plan.collect_batches(chunk_size=_BATCH, maintain_order=False, lazy=True, engine="streaming"):
        lines = _lines(batch[text])
        seen += np.asarray(phrases.held(lines).sum(axis=0)).astype(np.int64)
        here = words.held(lines)
        together += (here.T @ here).toarray()
        rows += batch.height
    return seen, together, rows

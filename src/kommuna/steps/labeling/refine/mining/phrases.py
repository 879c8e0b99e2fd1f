"""Finds phrases and pairs of words, the conditions of mined rules, and the rows that contain them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from kommuna.steps.labeling.refine.mining.stop_words import Stemmed, language_of, only_stop_words
from kommuna.steps.labeling.rules.text.stems import stem, stem_keyword, stem_lines, stem_pattern
from kommuna.steps.labeling.rules.text.tokens import keyword_line, rare_rows, token_lines
from kommuna.steps.text import normalize

_LONGEST = 3  # words of a phrase
_LEAST_ROWS = 2  # dev rows that contain a pair
_MOST_PHRASES = 30_000
_MOST_PAIR_WORDS = 1_000
_MOST_FORMS = 4  # forms of a word in a pair
_BATCH = 100_000  # messages that are searched at once, which limits memory
_YO = re.compile(r"\w*ё\w*")
_WORD = re.compile(r"[^\W_]\w*(?: ' \w+)*")

Forms = tuple[str, ...]


@dataclass(frozen=True)
class Findings:
    """c conditions and the rows on which they hold.

    Attributes:
        conditions: c, each a phrase (a string), or a pair of words with their forms.
        dev: d x c, 1 where the condition holds on the dev row.
        sample: s x c, 1 where it holds on the message of the sample.
        seen: c, the number of unlabeled messages on which it holds.
        messages: the number of unlabeled messages.
        language: words with the same stem in this language are equal; None: words are compared by their spelling.
        with_yo: folded words (with е) that dev rows spell with ё.
    """

    conditions: list[str | tuple[Forms, Forms]]
    dev: sparse.csr_array
    sample: sparse.csr_array
    seen: NDArray[np.int64]
    messages: int
    language: Stemmed | None = None
    with_yo: frozenset[str] = frozenset()

    def looked_for(self, column: int) -> str:
        """Returns a condition for a rule: the phrase, or a regular expression for both words in either order.

        Args:
            column: the index of the condition.
        """
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
    """Finds the phrases of one to three words in dev, and the pairs of words that occur in at least two dev rows.

    Words are compared by their stems if the language of the dev rows is clear. Phrases and pairs of stop words only are
    ignored. Messages are read in batches and only counted.

    Args:
        dev: d texts.
        sample: s texts of unlabeled messages.
        messages: the unlabeled messages.
        text: the column of `messages` with the text.
    """
    lines = _lines(dev.fill_null(""))
    language = language_of(word for line in lines for word in _words(line))
    phrases = _Phrases(_vocabulary(lines, language), language)
    words = _PairWords(_pair_words(lines, language))
    words_in_dev = words.found_in(lines)
    pairs = _pairs(words_in_dev)
    content = np.array([not only_stop_words(forms[0]) for forms in words.forms], dtype=np.bool_)
    pairs = pairs[content[pairs].any(axis=1)]

    def conditions_in(lines: pl.Series, in_lines: sparse.csr_array) -> sparse.csr_array:
        columns = in_lines.tocsc()
        both = columns[:, pairs[:, 0]].multiply(columns[:, pairs[:, 1]])
        return sparse.csr_array(sparse.hstack([phrases.found_in(lines), both]))

    sampled = _lines(sample.fill_null(""))
    seen, together, rows = _count(messages, text, phrases, words)
    return Findings(
        [*phrases.phrases, *((words.forms[a], words.forms[b]) for a, b in pairs)],
        conditions_in(lines, words_in_dev),
        conditions_in(sampled, words.found_in(sampled)),
        np.concatenate([seen, together[pairs[:, 0], pairs[:, 1]]]).astype(np.int64),
        rows,
        language,
        frozenset(normalize(word) for text in dev.drop_nulls() for word in _YO.findall(text.lower())),
    )


class _Phrases:
    """Searches token lines for phrases."""

    def __init__(self, phrases: list[str], language: Stemmed | None) -> None:
        self.phrases = phrases
        self._language = language
        if language is None:
            self._needles = [keyword_line(phrase) for phrase in phrases]
        else:
            stems = [stem_keyword(language, phrase) for phrase in phrases]
            self._needles = [stem_pattern(own) for own in stems]
            self._stems = frozenset(word for own in stems for word in own)

    def found_in(self, lines: pl.Series) -> sparse.csr_array:
        """Returns n x g, 1 where the line contains the phrase."""
        return _found(stem_lines(lines, self._language, self._stems) if self._language else lines, self._needles)


class _PairWords:
    """Searches token lines for words in any of their forms."""

    def __init__(self, forms: list[Forms]) -> None:
        self.forms = forms
        spelt = [(form, word) for word, own in enumerate(forms) for form in own]
        self._needles = [f" {form} " for form, _ in spelt]
        ones, form_index = np.ones(len(spelt), dtype=np.float32), np.arange(len(spelt))
        word_of = np.array([word for _, word in spelt], dtype=np.intp)
        self._word = sparse.csr_array((ones, (form_index, word_of)), shape=(len(spelt), len(forms)))

    def found_in(self, lines: pl.Series) -> sparse.csr_array:
        """Returns n x w, 1 where the line contains a form of the word."""
        found = sparse.csr_array(_found(lines, self._needles) @ self._word)
        found.data[:] = 1
        return found


def _lines(texts: pl.Series) -> pl.Series:
    return token_lines(texts, rare_rows(texts))


def _words(line: str) -> Iterator[str]:
    return (match[0].replace(" ' ", "'") for match in _WORD.finditer(line))


def _vocabulary(lines: Iterable[str], language: Stemmed | None) -> list[str]:
    """Returns the most frequent phrases, each in its most frequent form; a phrase contains no comma or other sign."""
    rows: Counter[str] = Counter()
    forms: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for line in lines:
        own = {phrase: _stemmed(phrase, language) for phrase in _phrases_of(line)}
        rows.update(set(own.values()))
        for phrase, key in own.items():
            forms[key][phrase] += 1
    often = [(_most_frequent(forms[key], 1)[0], count) for key, count in rows.items()]
    often.sort(key=lambda item: (-item[1], item[0]))
    return [phrase for phrase, _ in often[:_MOST_PHRASES]]


def _stemmed(phrase: str, language: Stemmed | None) -> str:
    return " ".join(stem_keyword(language, phrase)) if language else phrase


def _most_frequent(forms: Counter[str], most: int) -> Forms:
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
        if not phrase.replace(" ", "").isdigit() and not only_stop_words(phrase)  # amounts and dates are ignored
    }


def _found(lines: pl.Series, needles: list[str]) -> sparse.csr_array:
    """Returns n x g, 1 where the line contains the needle."""
    if not needles:
        return sparse.csr_array((len(lines), 0), dtype=np.float32)
    hits = lines.str.extract_many(needles, overlapping=True)
    rows = np.repeat(np.arange(len(lines)), hits.list.len().to_numpy())
    names = hits.explode(empty_as_null=False, keep_nulls=False).cast(pl.Enum(needles))
    found = sparse.csr_array(
        (np.ones(len(rows), dtype=np.float32), (rows, names.to_physical().to_numpy())), shape=(len(lines), len(needles))
    )
    found.sum_duplicates()
    found.data[:] = 1
    return found


def _pair_words(lines: pl.Series, language: Stemmed | None) -> list[Forms]:
    """Returns the most frequent words of three or more letters, except those in very many rows, with their forms."""
    rows: Counter[str] = Counter()
    forms: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for line in lines:
        own = {word: stem(language, word) if language else word for word in set(line.split())}
        rows.update(set(own.values()))
        for word, key in own.items():
            forms[key][word] += 1
    fit = [
        (_most_frequent(forms[key], _MOST_FORMS), count)
        for key, count in rows.items()
        if _LEAST_ROWS <= count <= len(lines) / 4 and len(key) > 2 and key[0].isalpha()
    ]
    fit.sort(key=lambda item: (-item[1], item[0]))
    return [own for own, _ in fit[:_MOST_PAIR_WORDS]]


def _pairs(words: sparse.csr_array) -> NDArray[np.intp]:
    """Returns the pairs of columns that occur together in `_LEAST_ROWS` rows or more."""
    together = sparse.triu(words.T @ words, k=1).tocoo()
    often = together.data >= _LEAST_ROWS
    return np.stack([together.row[often], together.col[often]], axis=1).astype(np.intp)


def _count(
    messages: pl.LazyFrame, text: str, phrases: _Phrases, words: _PairWords
) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
    """Counts the messages with each phrase, the messages with each two words, and all messages."""
    seen = np.zeros(len(phrases.phrases), dtype=np.int64)
    together = np.zeros((len(words.forms), len(words.forms)), dtype=np.float32)
    rows = 0
    plan = messages.select(pl.col(text).fill_null(""))
    for batch in plan.collect_batches(chunk_size=_BATCH, maintain_order=False, lazy=True, engine="streaming"):
        lines = _lines(batch[text])
        seen += np.asarray(phrases.found_in(lines).sum(axis=0)).astype(np.int64)
        found = words.found_in(lines)
        together += (found.T @ found).toarray()
        rows += batch.height
    return seen, together, rows

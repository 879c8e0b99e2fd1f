"""TF-IDF of texts: the figures of scikit-learn's `TfidfVectorizer` in a fraction of its processor time.

Each text is split once. Pairs of words are then counted as pairs of numbers, and the parts of a word once per distinct
word.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from kommuna.steps.text import POLARS_WORD, normalize

_BLOCK = 50_000  # texts whose terms are counted at once
_FROM_TERMS = ("column_of", "columns")  # cached properties


@dataclass
class Tfidf(ABC):
    """TF-IDF with sublinear frequencies and rows of norm one (Salton and Buckley 1988).

    Attributes:
        characters: only the first characters of a text are read; all if None.
        most: only the most frequent terms are kept; all if None.
        double: whether figures are float64 instead of float32.
        terms: p terms, in the order of the columns.
        idf: p, the inverse document frequencies.
    """

    characters: int | None = None
    most: int | None = None
    double: bool = False
    terms: list[str] = field(default_factory=list)
    idf: NDArray[Any] = field(default_factory=lambda: np.zeros(0, np.float32))
    _token: ClassVar[str]  # what a text is split into, for Polars

    def fit_transform(self, texts: Sequence[str] | pl.Series, *, least: int = 1, every: int = 1) -> sparse.csr_matrix:
        """Learns the terms from every n-th text, and returns the features of all of them, `n x p`.

        Args:
            texts: n texts.
            least: a term in fewer texts is left out.
            every: 1 to learn from all texts.

        Raises:
            ValueError: no text has a term.
        """
        split = self._split(texts)
        self.terms = self._frequent(split.every(every), least)
        if not self.terms:
            raise ValueError("the texts have no terms")
        for name in _FROM_TERMS:
            vars(self).pop(name, None)
        counts = self._counts(split)
        self.idf = _idf(counts[::every])
        return _weighted(counts, self.idf)

    def transform(self, texts: Sequence[str] | pl.Series) -> sparse.csr_matrix:
        """Returns the features of texts, `n x p`."""
        return _weighted(self._counts(self._split(texts)), self.idf)

    @cached_property
    def column_of(self) -> dict[str, int]:
        """The column of each term."""
        return {term: column for column, term in enumerate(self.terms)}

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out what is computed from the terms."""
        return {name: value for name, value in vars(self).items() if name not in _FROM_TERMS}

    @abstractmethod
    def _all(self, split: _Split) -> tuple[sparse.csr_matrix, Callable[[int], str]]:
        """Returns how often each text has each term that occurs, and the term of a column."""

    @abstractmethod
    def _counted(self, split: _Split) -> sparse.csr_matrix:
        """Returns how often each text has each of `terms`."""

    @property
    def _dtype(self) -> Any:
        return np.float64 if self.double else np.float32

    def _split(self, texts: Sequence[str] | pl.Series) -> _Split:
        number: dict[str, int] = {}
        tokens, sizes = [np.zeros(0, np.int32)], [np.zeros(1, np.int64)]
        for start in range(0, len(texts), _BLOCK):
            block = [normalize(text[: self.characters]) for text in texts[start : start + _BLOCK]]
            found = pl.Series(block, dtype=pl.String).str.extract_all(self._token)
            flat = found.explode().drop_nulls()
            names = flat.unique(maintain_order=True)
            numbers = np.array([number.setdefault(name, len(number)) for name in names], np.int32)
            tokens.append(numbers[flat.cast(pl.Enum(names)).to_physical().to_numpy()])
            sizes.append(found.list.len().to_numpy().astype(np.int64))
        return _Split(list(number), np.concatenate(tokens), np.cumsum(np.concatenate(sizes)))

    def _frequent(self, split: _Split, least: int) -> list[str]:
        """Returns the terms of enough texts; of these the most frequent, and among equals the first by the alphabet."""
        counts, term = self._all(split)
        kept = np.flatnonzero(np.bincount(counts.indices, minlength=counts.shape[1]) >= least)
        if self.most is None or len(kept) <= self.most:
            return sorted(map(term, kept.tolist()))
        times = np.bincount(counts.indices, weights=counts.data, minlength=counts.shape[1])[kept]
        limit = np.partition(times, -self.most)[-self.most]
        more, equal = (sorted(map(term, kept[some].tolist())) for some in (times > limit, times == limit))
        return sorted([*more, *equal[: self.most - len(more)]])

    def _counts(self, split: _Split) -> sparse.csr_matrix:
        blocks = [self._counted(split.part(i, i + _BLOCK)) for i in range(0, max(len(split), 1), _BLOCK)]
        return blocks[0] if len(blocks) == 1 else sparse.vstack(blocks, format="csr")


class WordTfidf(Tfidf):
    """TF-IDF of words and of pairs of neighbours."""

    _token: ClassVar[str] = rf"[{POLARS_WORD}]+"

    @cached_property
    def columns(self) -> _WordColumns:
        """The columns of words and pairs, by numbers of words."""
        number: dict[str, int] = {}
        for term in self.terms:
            for word in term.split(" "):
                number.setdefault(word, len(number))
        single = np.full(len(number) + 1, -1)
        pairs: list[tuple[int, int]] = []
        for column, term in enumerate(self.terms):
            first, *second = term.split(" ")
            if second:
                pairs.append((number[first] * len(number) + number[second[0]], column))
            else:
                single[number[first]] = column
        codes, columns = np.array(sorted(pairs), np.int64).reshape(-1, 2).T
        return _WordColumns(number, single, codes, columns)

    def _all(self, split: _Split) -> tuple[sparse.csr_matrix, Callable[[int], str]]:
        words = len(split.names)
        rows, codes = split.pairs(split.tokens, words)
        pairs, pair = np.unique(codes, return_inverse=True)

        def term(column: int) -> str:
            if column < words:
                return split.names[column]
            first, second = divmod(int(pairs[column - words]), words)
            return f"{split.names[first]} {split.names[second]}"

        found: list[tuple[NDArray[Any], NDArray[Any]]] = [(split.rows, split.tokens), (rows, words + pair)]
        return _matrix(found, (len(split), words + len(pairs)), self._dtype), term

    def _counted(self, split: _Split) -> sparse.csr_matrix:
        known = self.columns
        number = np.fromiter((known.number.get(name, -1) for name in split.names), np.int64, len(split.names))
        tokens = number[split.tokens]
        single = known.single[tokens]
        rows, codes = split.pairs(tokens, len(known.number))
        place = np.minimum(np.searchsorted(known.codes, codes), max(len(known.codes) - 1, 0))
        hit = known.codes[place] == codes if len(known.codes) else np.zeros(len(codes), np.bool_)
        found = [(split.rows[single >= 0], single[single >= 0]), (rows[hit], known.columns[place[hit]])]
        return _matrix(found, (len(split), len(self.terms)), self._dtype)


@dataclass
class PartTfidf(Tfidf):
    """TF-IDF of the n-grams of 2 to `longest` characters within words, which tolerate typos and inflections.

    A word is here what white space separates, with one space at either end.

    Attributes:
        longest: the most characters of a part.
    """

    longest: int = 4
    _token: ClassVar[str] = "[^ ]+"

    def parts(self, word: str) -> list[str]:
        """Returns the n-grams of a word, each as often as it occurs; a short word is one of them, once."""
        padded = f" {word} "
        sizes = range(2, min(self.longest, len(padded)) + 1)
        return [padded[i : i + size] for size in sizes for i in range(len(padded) - size + 1)]

    def _all(self, split: _Split) -> tuple[sparse.csr_matrix, Callable[[int], str]]:
        number: defaultdict[str, int] = defaultdict()
        number.default_factory = number.__len__
        of_words = [[number[part] for part in self.parts(name)] for name in split.names]
        names = list(number)
        return self._by_word(split, of_words, len(names)), names.__getitem__

    def _counted(self, split: _Split) -> sparse.csr_matrix:
        known = self.column_of
        of_words = [[known[part] for part in self.parts(name) if part in known] for name in split.names]
        return self._by_word(split, of_words, len(known))

    def _by_word(self, split: _Split, of_words: list[list[int]], width: int) -> sparse.csr_matrix:
        """Returns the sums of the columns of each text's words."""
        word = np.repeat(np.arange(len(of_words)), list(map(len, of_words)))
        column = np.fromiter((column for columns in of_words for column in columns), np.int64, len(word))
        parts = _matrix([(word, column)], (len(of_words), width), self._dtype)
        out = _matrix([(split.rows, split.tokens)], (len(split), len(of_words)), self._dtype) @ parts
        out.sort_indices()
        return out


class _WordColumns(NamedTuple):
    """Numbers of the w words of all terms, the column of each word (w + 1; -1 if it is no term), and those of pairs."""

    number: dict[str, int]
    single: NDArray[np.int64]
    codes: NDArray[np.int64]  # ascending
    columns: NDArray[np.int64]


@dataclass(frozen=True)
class _Split:
    """Split texts: distinct tokens, the t tokens as indices of those, and where each of n texts begins (n + 1)."""

    names: list[str]
    tokens: NDArray[np.int32]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def rows(self) -> NDArray[np.int32]:
        """The text of each token."""
        return np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.starts))

    def pairs(self, numbers: NDArray[Any], base: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Returns the text and the code, first * base + second, of neighbours with a number of zero or more."""
        rows = self.rows
        kept = (rows[1:] == rows[:-1]) & (numbers[1:] >= 0) & (numbers[:-1] >= 0)
        return rows[1:][kept], numbers[:-1][kept].astype(np.int64) * base + numbers[1:][kept]

    def every(self, n: int) -> _Split:
        """Returns every n-th text."""
        if n == 1:
            return self
        sizes = np.diff(self.starts)[::n]
        return _Split(self.names, self.tokens[self.rows % n == 0], np.concatenate([[0], np.cumsum(sizes)]))

    def part(self, start: int, end: int) -> _Split:
        """Returns the texts from `start` to before `end`."""
        starts = self.starts[start : end + 1]
        return _Split(self.names, self.tokens[starts[0] : starts[-1]], starts - starts[0])


def _matrix(found: list[tuple[NDArray[Any], NDArray[Any]]], shape: tuple[int, int], dtype: Any) -> sparse.csr_matrix:
    """Returns how often each row and column was found."""
    rows, columns = (np.concatenate(parts).astype(np.int32) for parts in zip(*found, strict=True))
    out = sparse.csr_matrix((np.ones(len(rows), dtype), (rows, columns)), shape=shape)
    out.sum_duplicates()
    return out


def _idf(counts: sparse.csr_matrix) -> NDArray[Any]:
    """Returns the inverse document frequencies of p terms, smoothed: log((1 + n) / (1 + texts with the term)) + 1."""
    found = np.bincount(counts.indices, minlength=counts.shape[1]).astype(counts.dtype) + counts.dtype.type(1)
    return np.asarray(np.log(counts.dtype.type(1 + counts.shape[0]) / found) + counts.dtype.type(1))


def _weighted(counts: sparse.csr_matrix, idf: NDArray[Any]) -> sparse.csr_matrix:
    """Replaces counts by 1 + log(count), times idf, and gives each row the norm one; equals scikit-learn to the bit.

    Written out, so that a registered model does not need scikit-learn, whose checks also take longer than one text.
    """
    weights = counts.data
    np.log(weights, out=weights)
    weights += 1
    weights *= idf[counts.indices]
    rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    norms = np.sqrt(np.bincount(rows, weights * weights, counts.shape[0]))
    weights /= norms[rows]
    return counts

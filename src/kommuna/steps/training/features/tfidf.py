"""Features of texts: TF-IDF of words and word pairs, and of character n-grams if there are few rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from kommuna.steps.text import normalize
from kommuna.steps.tfidf import PartTfidf, Tfidf, WordTfidf

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

MAX_CHARACTERS = 10_000  # of one text: a message of 5 MB must not delay the other 500,000
FIT_ROWS = 100_000  # vocabularies are learned from at most this many rows
PIECES_ROWS = 50_000  # with more rows only words are used: n-grams make a row ten times as long and gain little
MAX_TERMS = 50_000  # of each kind


def normalise(text: str) -> str:
    """Returns the normal form of the first `MAX_CHARACTERS` characters of a text."""
    return normalize(text[:MAX_CHARACTERS])


class TextFeatures:
    """Turns texts into rows of a sparse matrix: `n x p`, float32, each kind of term with norm one.

    Args:
        pieces: whether to add n-grams of 2 to 4 characters within words, which tolerate typos and inflections.
    """

    def __init__(self, *, pieces: bool) -> None:
        common: dict[str, Any] = {"characters": MAX_CHARACTERS, "most": MAX_TERMS}
        self._kinds: list[Tfidf] = [WordTfidf(**common)]
        if pieces:
            self._kinds.append(PartTfidf(**common))

    def fit(self, texts: Sequence[str]) -> TextFeatures:
        """Learns the vocabulary, as `fit_transform` does."""
        self.fit_transform(texts)
        return self

    def fit_transform(self, texts: Sequence[str]) -> csr_matrix:
        """Learns the vocabulary, from every n-th text if there are many; returns the `n x p` features of all texts.

        Raises:
            ValueError: no text contains a word.
        """
        stride = max(1, -(-len(texts) // FIT_ROWS))
        least = 2 if len(range(0, len(texts), stride)) >= 2000 else 1
        return _beside([kind.fit_transform(texts, least=least, every=stride) for kind in self._kinds])

    def transform(self, texts: Sequence[str]) -> csr_matrix:
        """Returns the `n x p` features of texts."""
        return _beside([kind.transform(texts) for kind in self._kinds])

    def kinds(self) -> Iterator[tuple[int, Tfidf]]:
        """Yields, for each kind of term, its first column and its features."""
        first = 0
        for kind in self._kinds:
            yield first, kind
            first += len(kind.terms)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restores the features; those of older taggers are scikit-learn's vectorizers."""
        self._kinds = [kind if isinstance(kind, Tfidf) else _from_vectorizer(kind) for kind in state["_kinds"]]

    @property
    def terms(self) -> list[str]:
        """The term of each feature."""
        return [term for kind in self._kinds for term in kind.terms]


def _beside(blocks: list[csr_matrix]) -> csr_matrix:
    from scipy.sparse import hstack

    return blocks[0] if len(blocks) == 1 else hstack(blocks, format="csr")


def _from_vectorizer(vectorizer: Any) -> Tfidf:
    kind = WordTfidf if vectorizer.analyzer == "word" else PartTfidf
    terms = [str(term) for term in vectorizer.get_feature_names_out()]
    return kind(characters=MAX_CHARACTERS, most=MAX_TERMS, terms=terms, idf=vectorizer.idf_)

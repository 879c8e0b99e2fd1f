"""Features of texts: TF-IDF of words, word pairs and, where rows are few, pieces of words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kommuna.steps.text import WORD, fold

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

MAX_CHARACTERS = 10_000  # of one text: a message of 5 MB must not hold up the other 500,000
FIT_ROWS = 100_000  # vocabularies are learnt from so many rows at most
PIECES_ROWS = 50_000  # above that many rows, words alone: pieces of words cost eight times the time and gain little
MAX_TERMS = 50_000  # of each kind


def normalise(text: str) -> str:
    """The normal form of a text's beginning."""
    return fold(text[:MAX_CHARACTERS])


class TextFeatures:
    """Turns texts into rows of a sparse matrix: `n x p`, float32, each kind of term with norm one.

    Args:
        pieces: add n-grams of 2 to 4 characters within words, which forgive typos and endings.
    """

    def __init__(self, *, pieces: bool) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        common: dict[str, Any] = {
            "preprocessor": normalise,
            "sublinear_tf": True,
            "dtype": np.float32,
            "max_features": MAX_TERMS,
        }
        self._kinds = [TfidfVectorizer(token_pattern=f"{WORD}+", ngram_range=(1, 2), **common)]
        if pieces:
            self._kinds.append(TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), **common))

    def fit(self, texts: Sequence[str]) -> TextFeatures:
        """Learns the vocabulary, from an even sample where texts are many.

        Raises:
            ValueError: no text holds a single word.
        """
        stride = -(-len(texts) // FIT_ROWS)
        sample = texts[::stride] if stride > 1 else texts
        for kind in self._kinds:
            kind.set_params(min_df=2 if len(sample) >= 2000 else 1)
            kind.fit(sample)
        return self

    def transform(self, texts: Sequence[str]) -> csr_matrix:
        """Features of texts, `n x p`."""
        from scipy.sparse import hstack

        blocks = [kind.transform(texts) for kind in self._kinds]
        return blocks[0] if len(blocks) == 1 else hstack(blocks, format="csr", dtype=np.float32)

    def analysers(self) -> Iterator[tuple[int, Callable[[str], list[str]], dict[str, int], bool]]:
        """Of each kind of term: its first column, what splits a text, the column of a term, and if it is of pieces."""
        first = 0
        for kind in self._kinds:
            yield first, kind.build_analyzer(), kind.vocabulary_, kind.analyzer != "word"
            first += len(kind.vocabulary_)

    def __getstate__(self) -> dict[str, Any]:
        """Without the address in memory that scikit-learn notes: the same training is to give the same bytes."""
        for kind in self._kinds:
            vars(kind).pop("_stop_words_id", None)
        return dict(vars(self))

    @property
    def terms(self) -> list[str]:
        """The term of each feature."""
        return [str(term) for kind in self._kinds for term in kind.get_feature_names_out()]

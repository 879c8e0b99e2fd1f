"""Features of texts: TF-IDF of words and word pairs, and of character n-grams if there are few rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kommuna.steps.text import WORD, normalize

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

MAX_CHARACTERS = 10_000  # of one text: a message of 5 MB must not delay the other 500,000
FIT_ROWS = 100_000  # vocabularies are learned from at most this many rows
PIECES_ROWS = 50_000  # with more rows only words are used: n-grams take eight times as long and gain little
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
        """Learns the vocabulary, from every n-th text if there are many.

        Raises:
            ValueError: no text contains a word.
        """
        stride = -(-len(texts) // FIT_ROWS)
        sample = texts[::stride] if stride > 1 else texts
        for kind in self._kinds:
            kind.set_params(min_df=2 if len(sample) >= 2000 else 1)
            kind.fit(sample)
        return self

    def transform(self, texts: Sequence[str]) -> csr_matrix:
        """Returns the `n x p` features of texts."""
        from scipy.sparse import hstack

        blocks = [kind.transform(texts) for kind in self._kinds]
        return blocks[0] if len(blocks) == 1 else hstack(blocks, format="csr", dtype=np.float32)

    def analysers(self) -> Iterator[tuple[int, Callable[[str], list[str]], dict[str, int], bool]]:
        """Yields, for each kind of term, its first column, its analyser, its vocabulary, and whether it has n-grams."""
        first = 0
        for kind in self._kinds:
            yield first, kind.build_analyzer(), kind.vocabulary_, kind.analyzer != "word"
            first += len(kind.vocabulary_)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out a memory address that scikit-learn keeps, so that the same training gives the same bytes."""
        for kind in self._kinds:
            vars(kind).pop("_stop_words_id", None)
        return dict(vars(self))

    @property
    def terms(self) -> list[str]:
        """The term of each feature."""
        return [str(term) for kind in self._kinds for term in kind.get_feature_names_out()]

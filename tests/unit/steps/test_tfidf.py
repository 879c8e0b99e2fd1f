"""TF-IDF against scikit-learn's vectorizers."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from kommuna.demo.messages import message_blocks
from kommuna.steps.text import WORD, normalize
from kommuna.steps.tfidf import PartTfidf, Tfidf, WordTfidf

TEXTS = [
    *pl.concat(message_blocks(400, seed=3, stream=1, first_id=0))["text"].to_list(),
    "",
    "a",
    "?!",
    "One-two  one two, ONE_two; one",
    "Ещё за\u0301мок\u00a0и ② x² ½ ‿ ＣＡＲＤ\u2028card",
    "x" * 300 + " beyond the characters that are read",
]
VECTORIZERS: list[tuple[type[Tfidf], dict[str, Any]]] = [
    (WordTfidf, {"token_pattern": f"{WORD}+", "ngram_range": (1, 2)}),
    (PartTfidf, {"analyzer": "char_wb", "ngram_range": (2, 4)}),
]


@pytest.mark.parametrize(("kind", "arguments"), VECTORIZERS)
@pytest.mark.parametrize(("least", "every", "double"), [(1, 1, False), (2, 3, True)])
def test_terms_and_figures_are_those_of_scikit_learn(
    kind: type[Tfidf], arguments: dict[str, Any], least: int, every: int, double: bool
) -> None:
    theirs = TfidfVectorizer(
        sublinear_tf=True,
        dtype=np.float64 if double else np.float32,
        min_df=least,
        preprocessor=lambda text: normalize(text[:250]),
        **arguments,
    ).fit(TEXTS[::every])
    ours = kind(characters=250, double=double)
    found = ours.fit_transform(pl.Series(TEXTS), least=least, every=every)
    assert ours.terms == theirs.get_feature_names_out().tolist()
    expected = theirs.transform(TEXTS)
    assert found.dtype == expected.dtype
    assert np.array_equal(found.toarray(), expected.toarray())
    assert np.array_equal(pickle.loads(pickle.dumps(ours)).transform(TEXTS).toarray(), expected.toarray())


def test_of_equally_frequent_terms_the_first_by_the_alphabet_are_kept() -> None:
    words = WordTfidf(most=3)
    found = words.fit_transform(["c b", "b", "d", "a", "b"])
    assert words.terms == ["a", "b", "c"]
    assert found.shape == (5, 3)
    assert words.transform(["d d", "b c"]).nnz == 2


def test_texts_without_a_term_are_refused() -> None:
    with pytest.raises(ValueError, match="no terms"):
        WordTfidf().fit_transform(["?!", ""])

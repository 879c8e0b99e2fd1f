"""Features of texts: those of taggers that were saved with scikit-learn's vectorizers."""

from __future__ import annotations

import pickle

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from kommuna.steps.text import WORD
from kommuna.steps.training.features.tfidf import TextFeatures, normalise

TEXTS = ["my card is lost", "Карта потеряна", "my card", "the loan, the card"]


def test_features_saved_with_vectorizers_give_the_same_figures() -> None:
    common = {"preprocessor": normalise, "sublinear_tf": True, "dtype": np.float32}
    words = TfidfVectorizer(token_pattern=f"{WORD}+", ngram_range=(1, 2), **common).fit(TEXTS)
    parts = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), **common).fit(TEXTS)
    older = TextFeatures(pieces=True)
    vars(older)["_kinds"] = [words, parts]
    loaded = pickle.loads(pickle.dumps(older))
    expected = np.hstack([kind.transform(TEXTS).toarray() for kind in (words, parts)])
    assert np.array_equal(loaded.transform(TEXTS).toarray(), expected)
    assert loaded.terms == [*words.get_feature_names_out(), *parts.get_feature_names_out()]

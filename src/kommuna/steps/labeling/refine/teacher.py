"""Predicts tags of unlabeled messages from dev rows, so that a condition's precision can be estimated on more rows."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from kommuna.steps.tfidf import PartTfidf, WordTfidf

_HEAD = 300  # characters of a text from which parts of words are extracted
_LONGEST = 5  # characters of a part

Mask = NDArray[np.bool_]


class Teacher:
    """Ridge regression of the tags on TF-IDF of words, pairs of neighbours, and parts of words.

    Parts of words raise its accuracy from .65 to .69 and from .79 to .815 (Banking77 and CLINC150, training rows). They
    are extracted from the beginning of a text only, which limits memory.

    Single predictions are often wrong, but the precision of a condition that is estimated from them is close to the
    true one. Of conditions that are right on two of two dev rows, those with an estimate of 85 % or more are right on
    nine of ten held-out rows, those below 30 % on three of ten (Banking77 and CLINC150, training rows).

    Args:
        dev: d texts.
        messages: s texts.
    """

    def __init__(self, dev: pl.Series, messages: pl.Series) -> None:
        kinds = (WordTfidf(double=True), PartTfidf(double=True, characters=_HEAD, longest=_LONGEST))
        dev_texts, message_texts = dev.fill_null(""), messages.fill_null("")
        try:
            self._dev = sparse.csr_array(sparse.hstack([kind.fit_transform(dev_texts) for kind in kinds]))
        except ValueError:  # the texts have no word
            self._dev = sparse.csr_array((len(dev), 1))
            self._messages = sparse.csr_array((len(messages), 1))
        else:
            self._messages = sparse.csr_array(sparse.hstack([kind.transform(message_texts) for kind in kinds]))

    def tags(self, rows: NDArray[np.intp], truth: Mask, *, multi_label: bool) -> sparse.csr_array:
        """Predicts the tags of the messages from some dev rows.

        Args:
            rows: r indices of dev rows to learn from.
            truth: r x k, their tags.
            multi_label: whether a message may have several tags, or none.

        Returns:
            s x k, 1 where the message is predicted to have the tag.
        """
        from sklearn.linear_model import Ridge

        known = np.flatnonzero(truth.any(axis=0))
        model = Ridge(alpha=1.0, solver="sparse_cg", tol=1e-3).fit(self._dev[rows], 2.0 * truth[:, known] - 1)
        scores = model.predict(self._messages).reshape(-1, len(known))
        if multi_label:
            message, column = np.nonzero(scores >= 0)
        else:
            message, column = np.arange(len(scores)), scores.argmax(axis=1)
        ones = np.ones(len(message), dtype=np.float32)
        return sparse.csr_array((ones, (message, known[column])), shape=(len(scores), truth.shape[1]))

"""Finds words that are typical of a group of rows: log-odds ratios with an informative Dirichlet prior."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_EDGE = 1e-9  # avoids log(0) if the vocabulary is a single word
_PRIOR = 3_000.0  # weight of the prior, in words


def log_odds(
    there: Floats, words_there: Floats, elsewhere: Floats, words_elsewhere: Floats, share: Floats,
    *, prior: float = _PRIOR,
) -> Floats:  # fmt: skip
    """Computes z-scores of log-odds ratios of e words between a group of rows and other rows.

    y is the count of the word, n the count of all words, and a the prior of the word: its share of the background times
    `prior` (a0) (Monroe, Colaresi & Quinn 2008, "Fightin' Words: Lexical
    feature selection and evaluation for identifying the content of political conflict", Political Analysis 16,
    equations 16, 18 and 22)::

        d = log( (y + a) / (n + a0 - y - a) ) in the group  -  the same in the other rows
        v = 1 / (y + a) in the group  +  the same in the other rows
        z = d / sqrt(v)

    The prior shrinks both sides towards the background, so that a rare word has no significant difference.

    Args:
        there: e, rows of the group that contain the word.
        words_there: e, the sum of `there` over all words.
        elsewhere: e, other rows that contain the word.
        words_elsewhere: e, the sum of `elsewhere` over all words.
        share: e, the word's share of the background.
        prior: a0, the weight of the prior in words.
    """
    a = prior * share

    def odds(y: Floats, n: Floats) -> Floats:
        return np.asarray(np.log(y + a) - np.log(np.maximum(n + prior - y - a, _EDGE)))

    difference = odds(there, words_there) - odds(elsewhere, words_elsewhere)
    return np.asarray(difference / np.sqrt(1 / (there + a) + 1 / (elsewhere + a)))

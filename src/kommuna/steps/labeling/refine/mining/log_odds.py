"""Which words tell one group of rows from another: log-odds with an informative prior."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_EDGE = 1e-9  # of a vocabulary of one word nothing is left beside it
_PRIOR = 3_000.0  # weight of the background, in words


def log_odds(
    there: Floats, words_there: Floats, elsewhere: Floats, words_elsewhere: Floats, share: Floats,
    *, prior: float = _PRIOR,
) -> Floats:  # fmt: skip
    """Log-odds ratios over their standard deviation, of e words between a group and its rest.

    With y words counted in a group and in its rest, n all the words counted there, and a prior a that is the
    background's share of the word times `prior`, a0 in all (Monroe, Colaresi & Quinn 2008, "Fightin' Words: Lexical
    feature selection and evaluation for identifying the content of political conflict", Political Analysis 16,
    equations 16, 18 and 22)::

        d = log( (y + a) / (n + a0 - y - a) ) in the group  -  the same in its rest
        v = 1 / (y + a) in the group  +  the same in its rest
        z = d / sqrt(v)

    The prior pulls both sides to the background, and a rare word cannot show a sure difference.

    Args:
        there: e, rows of the group that hold the word.
        words_there: e, the sum of `there` over all words.
        elsewhere: e, rows of its rest that hold the word.
        words_elsewhere: e, the sum of `elsewhere` over all words.
        share: e, the word's share of the background.
        prior: a0.
    """
    a = prior * share

    def odds(y: Floats, n: Floats) -> Floats:
        return np.asarray(np.log(y + a) - np.log(np.maximum(n + prior - y - a, _EDGE)))

    difference = odds(there, words_there) - odds(elsewhere, words_elsewhere)
    return np.asarray(difference / np.sqrt(1 / (there + a) + 1 / (elsewhere + a)))

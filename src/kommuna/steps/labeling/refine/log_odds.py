"""Which words tell one group of rows from another: log-odds with an informative prior."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_EDGE = 1e-9  # of a vocabulary of one word nothing is left beside it
_PRIOR = 3_000.0  # weight of the background, in words


def log_odds(there: Floats, elsewhere: Floats, background: NDArray[np.int64], *, prior: float = _PRIOR) -> Floats:
    """Log-odds ratios over their standard deviation, of c words between g groups and each one's rest.

    With y words counted in a group and in its rest, n their sums, and a prior a that is the background's share of
    each word times `prior`, a0 in all (Monroe, Colaresi & Quinn 2008, "Fightin' Words: Lexical feature selection and
    evaluation for identifying the content of political conflict", Political Analysis 16, equations 16, 18 and 22)::

        d = log( (y + a) / (n + a0 - y - a) ) in the group  -  the same in its rest
        v = 1 / (y + a) in the group  +  the same in its rest
        z = d / sqrt(v)

    The prior pulls both sides to the background, and a rare word cannot show a sure difference.

    Args:
        there: g x c, rows of the group that hold the word.
        elsewhere: g x c, rows of its rest that do.
        background: c, unlabeled rows that do.
        prior: a0.
    """
    a = prior * (background + 1.0) / (background + 1.0).sum()

    def odds(y: Floats) -> Floats:
        n = y.sum(axis=1, keepdims=True)
        return np.asarray(np.log(y + a) - np.log(np.maximum(n + prior - y - a, _EDGE)))

    return np.asarray((odds(there) - odds(elsewhere)) / np.sqrt(1 / (there + a) + 1 / (elsewhere + a)))

"""From which probability a row is given a tag that rules vote for, where it may have several."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.labeling.models.base import Beliefs
from kommuna.steps.labeling.votes.patterns import Codes

_HALF = 0.5


def least_given(beliefs: Beliefs, voted: NDArray[np.bool_], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The k probabilities from which tags are given so that the expected F1 of each is highest; one half at most.

    With probabilities p, given to the rows G, the expected F1 of a tag is about ``2 Σ_G p / (|G| + Σ p)``. It is
    highest where all rows above some probability are given the tag, and that is half of the F1 reached there (Lipton,
    Elkan & Naryanaswamy 2014, "Optimal thresholding of classifiers to maximize F1 measure"): a rare tag that its rules
    find with a precision below one half would else be given to nobody.

    Args:
        beliefs: P x k probabilities of vote patterns.
        voted: P x k, whether a rule votes for the tag: nothing else is given from less than one half.
        counts: P, rows with the pattern.
    """
    least = np.full(beliefs.shape[1], _HALF)
    expected = counts @ beliefs
    for tag in range(beliefs.shape[1]):
        rows = np.flatnonzero(voted[:, tag])
        rows = rows[np.argsort(-beliefs[rows, tag], kind="stable")]
        if not len(rows):
            continue
        given, right = np.cumsum(counts[rows]), np.cumsum(counts[rows] * beliefs[rows, tag])
        best = int((2 * right / (given + expected[tag])).argmax())
        least[tag] = min(least[tag], beliefs[rows[best], tag])
    return least


def voted_for(votes: Codes, k: int) -> NDArray[np.bool_]:
    """n x k, the tags that some rule votes for, of n x m codes."""
    voted = np.zeros((len(votes), k), dtype=np.bool_)
    row, rule = np.nonzero((votes >= 0) & (votes < k))
    voted[row, votes[row, rule]] = True
    return voted

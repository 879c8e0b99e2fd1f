"""The probability from which a tag with a vote is assigned, where rows may have several tags."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.labeling.models.base import Probabilities
from kommuna.steps.labeling.votes.patterns import Codes

_HALF = 0.5


def f1_thresholds(
    probabilities: Probabilities, voted: NDArray[np.bool_], counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Returns the k thresholds that maximize the expected F1 of each tag; at most one half.

    If the rows G are assigned a tag with the probabilities p, its expected F1 is about ``2 Σ_G p / (|G| + Σ p)``. The
    best G are all rows above half of the F1 that is reached (Lipton, Elkan & Naryanaswamy 2014, "Optimal thresholding
    of classifiers to maximize F1 measure"). Without this, a rare tag whose rules have a precision below one half would
    never be assigned.

    Args:
        probabilities: P x k, of vote patterns.
        voted: P x k, whether a rule votes for the tag; other tags keep the threshold of one half.
        counts: P, rows with the pattern.
    """
    thresholds = np.full(probabilities.shape[1], _HALF)
    expected = counts @ probabilities
    for tag in range(probabilities.shape[1]):
        rows = np.flatnonzero(voted[:, tag])
        rows = rows[np.argsort(-probabilities[rows, tag], kind="stable")]
        if not len(rows):
            continue
        assigned, right = np.cumsum(counts[rows]), np.cumsum(counts[rows] * probabilities[rows, tag])
        best = int((2 * right / (assigned + expected[tag])).argmax())
        thresholds[tag] = min(thresholds[tag], probabilities[rows[best], tag])
    return thresholds


def voted_for(votes: Codes, k: int) -> NDArray[np.bool_]:
    """Returns the tags that some rule votes for, n x k.

    Args:
        votes: n x m codes.
        k: the number of tags.
    """
    voted = np.zeros((len(votes), k), dtype=np.bool_)
    row, rule = np.nonzero((votes >= 0) & (votes < k))
    voted[row, votes[row, rule]] = True
    return voted

"""Chooses each tag's probability threshold, where a row may have several tags."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from kommuna.steps.training.fit.soft_logistic import Matrix

SLOPE = 0.5  # change of a threshold's log-odds per log-odds of the tag's share
SHIFTS = np.linspace(-2.5, 2.5, 41)  # candidates for the common shift, in log-odds
OWN_ROWS = 10.0  # weight of the common shift, in rows of a tag


def thresholds(held_out: Matrix | None, labels: Matrix, share: NDArray[np.floating]) -> tuple[float, ...]:
    """Returns the k thresholds with the best F1 on held-out dev rows.

    All tags share one shift, on a scale on which they can be compared::

        log-odds(threshold) = shift + SLOPE · log-odds(share of the tag)

    because rare tags get lower probabilities: a tag of 2 % has the threshold .125 if one of 50 % has one half. The
    common shift maximises the mean of micro and macro F1. A tag's own shift maximises its F1, smoothed as if
    `OWN_ROWS` more rows had the tag and were labeled as well as all tags together.

    On NLU++ with 100 dev rows, where three tags of four have fewer than five, the slope gains .01 to .02 in both means
    over one threshold for all; a threshold of one half for tags with few rows is .1 below in macro F1.

    Args:
        held_out: d x k scores (log-odds) of the dev rows by models that did not learn from them; None if rows are too
            few, then the shift is 0.
        labels: d x k zeros and ones.
        share: k, share of rows with the tag, 0 to 1.
    """
    share = np.clip(np.asarray(share, dtype=np.float64), 1e-3, 0.5)
    scale = SLOPE * (np.log(share) - np.log1p(-share))
    shift = np.zeros(len(share)) if held_out is None else _shifts(held_out - scale, labels > 0.5)
    return tuple(expit(shift + scale).tolist())


def _shifts(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns k shifts."""
    given = np.stack([(scores >= shift).sum(axis=0) for shift in SHIFTS]).astype(np.float64)
    right = np.stack([((scores >= shift) & truth).sum(axis=0) for shift in SHIFTS]).astype(np.float64)
    there, seen = truth.sum(axis=0), truth.any(axis=0)
    if not seen.any():
        return np.zeros(truth.shape[1])
    micro = 2 * right.sum(axis=1) / np.maximum(given.sum(axis=1) + there.sum(), 1)
    macro = (2 * right[:, seen] / (given[:, seen] + there[seen])).mean(axis=1)
    common = (micro + macro) / 2
    own = (2 * right + 2 * OWN_ROWS * common[:, None]) / (given + there + 2 * OWN_ROWS)
    return SHIFTS[_nearest_to_zero(own)]


def _nearest_to_zero(figure: NDArray[np.float64]) -> NDArray[np.intp]:
    """Returns the best shift of each column; among equals, the one nearest to 0."""
    order = np.argsort(np.abs(SHIFTS), kind="stable")
    return np.asarray(order[figure[order].argmax(axis=0)])

"""From which probability a row gets a tag, where it may have several."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from kommuna.steps.training.fit.soft_logistic import Matrix

SLOPE = 0.5  # of a threshold's log-odds in those of the tag's share
SHIFTS = np.linspace(-2.5, 2.5, 41)  # of all thresholds, in log-odds
OWN_ROWS = 10.0  # a tag's rows that weigh as much as what all tags say


def thresholds(held_out: Matrix | None, labels: Matrix, share: NDArray[np.floating]) -> tuple[float, ...]:
    """The k thresholds under which held-out dev rows are labeled best.

    All tags have one threshold in common, on a scale on which they can be compared::

        log-odds(threshold) = shift + SLOPE · log-odds(share of the tag)

    for what is rare is believed less, right or wrong: a tag of 2 % is given from .125 where one of 50 % is given from
    one half. The shift is the one with the highest mean of micro and macro F1. A tag leaves it as far as its own rows
    say so: its F1 counts as if `OWN_ROWS` more rows had the tag and were labeled as well as the tags together.

    On NLU++ with 100 dev rows, where three tags of four have fewer than five, the slope gains .01 to .02 in both means
    over one threshold for all; a threshold of one half for tags with few rows is .1 below in macro F1.

    Args:
        held_out: d x k scores (log-odds) of the dev rows by models that did not learn from them; None if rows are too
            few, then the shift is 0.
        labels: d x k zeros and ones.
        share: k, how many rows have the tag, 0 to 1.
    """
    share = np.clip(np.asarray(share, dtype=np.float64), 1e-3, 0.5)
    scale = SLOPE * (np.log(share) - np.log1p(-share))
    shift = np.zeros(len(share)) if held_out is None else _shifts(held_out - scale, labels > 0.5)
    return tuple(expit(shift + scale).tolist())


def _shifts(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """k shifts: the common one, or a tag's own."""
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
    """For each column the line with the best figure; of equals the one nearest to a shift of 0."""
    order = np.argsort(np.abs(SHIFTS), kind="stable")
    return np.asarray(order[figure[order].argmax(axis=0)])

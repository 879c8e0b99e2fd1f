"""What a confidence means: calibrated probabilities, and the one from which a tag is accepted without review.

A classifier of weak labels is more confident than it is right. On held-out dev rows of Banking77 and of the demo, Platt
scaling of the highest probability had a lower log loss than a temperature, and isotonic regression a higher one
(docs/decisions/0028-calibrated-confidence.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.log_odds_calibration import LogOddsCalibration, log_odds_calibration
from kommuna.steps.statistics import calibration_error
from kommuna.steps.training.fit.soft_logistic import Matrix

LEAST_ROWS = 100  # held-out dev rows; with fewer, nothing is calibrated and nothing accepted
_AHEAD = 1e-6  # by which the highest probability stays above the second

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Acceptance:
    """The probability from which a predicted tag is accepted without review, learned on held-out dev rows.

    Attributes:
        precision: the wanted share of right tags among those accepted.
        min_confidence: tags of this probability or a higher one are accepted; None if no threshold had the precision.
        coverage: share of the tags predicted for dev rows that it accepts.
        predictions: the predicted tags that it was learned on: one per row, unless rows may have several tags.
    """

    precision: float
    min_confidence: float | None
    coverage: float
    predictions: int


def predictions(p: Matrix, truth: Flags, *, several: bool) -> tuple[NDArray[np.float32], Flags]:
    """Returns the probability of each prediction and whether it is right: what is calibrated.

    Args:
        p: `n x k` probabilities.
        truth: `n x k`.
        several: whether a row may have several tags: each probability then counts as a prediction, otherwise only the
            row's highest one.
    """
    if several:
        return p.ravel(), truth.ravel()
    best = p.argmax(axis=1)
    return p[np.arange(len(p)), best], truth[np.arange(len(p)), best]


def calibration_of(p: Matrix, truth: Flags, *, several: bool) -> LogOddsCalibration | None:
    """Fits the calibration of held-out rows; None if there are fewer than `LEAST_ROWS`.

    Args:
        p: `n x k` probabilities by models that did not learn from the row.
        truth: `n x k`.
        several: whether a row may have several tags.
    """
    if len(p) < LEAST_ROWS:
        return None
    given, right = predictions(p, truth, several=several)
    return log_odds_calibration(given, 1 - given, right)


def calibrate(p: Matrix, calibration: LogOddsCalibration, *, several: bool) -> Matrix:
    """Returns calibrated probabilities, `n x k`; the order of a row's tags stays.

    With several tags per row each probability is calibrated. With one tag the highest is, and the others share the rest
    in the same proportions as before; where the second would overtake the first, the first stays just ahead.

    Args:
        p: `n x k` probabilities.
        calibration: of single predictions.
        several: whether a row may have several tags.
    """
    if several:
        return np.asarray(calibration(p, 1 - p), dtype=np.float32)
    if p.shape[1] < 2:
        return p
    row, best = np.arange(len(p)), p.argmax(axis=1)
    top, others = p[row, best].astype(np.float64), p.astype(np.float64)
    others[row, best] = 0.0
    rest = others.sum(axis=1)
    certain = rest <= 0  # the others are 0 in float32
    others[certain] = 1.0
    others[row[certain], best[certain]] = 0.0
    rest[certain] = p.shape[1] - 1
    second = others.max(axis=1)
    first = np.maximum(calibration(top, 1 - top), second / (rest + second) + _AHEAD)
    others *= ((1 - first) / rest)[:, None]
    others[row, best] = first
    return others.astype(np.float32)


def acceptance_of(confidence: NDArray[np.floating], right: Flags, *, precision: float) -> Acceptance | None:
    """Learns the lowest probability from which tags are right in the wanted share; None with fewer than `LEAST_ROWS`.

    One more wrong tag is counted than there is, since the threshold is chosen among many: as in conformal risk control
    (Angelopoulos et al. 2022, arXiv:2208.02814, eq. 4).

    Args:
        confidence: n probabilities of tags predicted for held-out rows.
        right: n, whether each tag is right.
        precision: the wanted share of right tags, 0 to 1.
    """
    count = len(confidence)
    if count < LEAST_ROWS:
        return None
    order = np.argsort(-confidence, kind="stable")
    sure = confidence[order]
    accepted, wrong = np.arange(1, count + 1), np.cumsum(~right[order])
    last_of_equals = np.diff(sure, append=-1.0) != 0
    kept = np.flatnonzero(last_of_equals & (wrong + 1 <= (1 - precision) * (accepted + 1) + 1e-9))
    if not len(kept):
        return Acceptance(precision, None, 0.0, count)
    return Acceptance(precision, float(sure[kept[-1]]), float((kept[-1] + 1) / count), count)


def cross_fitted_error(p: Matrix, truth: Flags, fold: NDArray[np.integer], *, several: bool) -> float:
    """Returns the expected calibration error after calibration, where each fold is calibrated without its own rows.

    Args:
        p: `n x k` probabilities of held-out rows.
        truth: `n x k`.
        fold: n, the fold of each row.
        several: whether a row may have several tags.
    """
    given, right = predictions(p, truth, several=several)
    of = np.repeat(fold, p.shape[1]) if several else fold
    out = np.zeros(len(given))
    for one in np.unique(of):
        held = of == one
        fitted = log_odds_calibration(given[~held], 1 - given[~held], right[~held])
        out[held] = fitted(given[held], 1 - given[held])
    return calibration_error(out, right)

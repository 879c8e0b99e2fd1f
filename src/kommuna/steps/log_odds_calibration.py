"""Platt scaling: calibrates yes-or-no predictions of many kinds together, where each has too few rows for its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Probabilities = NDArray[np.floating]

_PULL = 1.0  # strength of the prior, slope 1 and shift 0
_MAX_LOG_ODDS = 9.0  # log-odds are clipped to this
_STEPS = 25  # of Newton's method, at most


@dataclass(frozen=True)
class LogOddsCalibration:
    """Platt scaling with one slope and one shift for all predictions: ``log-odds' = slope · log-odds + shift``.

    (Platt 1999, "Probabilistic outputs for support vector machines".) The shift can change decisions: if
    the models predict .4 where four of five rows have the tag, the result is above one half. The order of probabilities
    stays, since the slope is never below 0.
    """

    slope: float = 1.0
    shift: float = 0.0

    def __call__(self, yes: Probabilities, no: Probabilities) -> NDArray[np.float64]:
        """Returns the calibrated probabilities of yes, in the shape of `yes`.

        Args:
            yes: probabilities of yes.
            no: of no; `1 - yes` up to rounding.
        """
        return np.asarray(expit(self.slope * _log_odds(yes, no) + self.shift), dtype=np.float64)


def log_odds_calibration(yes: Probabilities, no: Probabilities, truth: NDArray[np.bool_]) -> LogOddsCalibration:
    """Fits the calibration by logistic regression.

    Args:
        yes: d probabilities of yes, by models that were not fitted on the row's label.
        no: d probabilities of no.
        truth: d, whether yes is right.
    """
    features = np.stack([_log_odds(yes, no), np.ones(len(yes))], axis=1)
    identity = np.array([1.0, 0.0])
    coefficients = identity
    for _ in range(_STEPS):
        predicted = expit(features @ coefficients)
        gradient = features.T @ (predicted - truth) + _PULL * (coefficients - identity)
        hessian = (features.T * (predicted * (1 - predicted))) @ features + _PULL * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        coefficients = coefficients - step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-6:
            break
    return LogOddsCalibration(max(float(coefficients[0]), 0.0), float(coefficients[1]))


def _log_odds(yes: Probabilities, no: Probabilities) -> NDArray[np.float64]:
    floor = np.exp(-_MAX_LOG_ODDS)
    return np.asarray(np.log(np.maximum(yes, floor)) - np.log(np.maximum(no, floor)), dtype=np.float64)

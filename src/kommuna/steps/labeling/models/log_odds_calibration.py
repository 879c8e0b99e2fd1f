"""Calibrates many yes-or-no models together, where each has too few dev rows for its own calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from kommuna.steps.labeling.models.base import Probabilities

_PULL = 1.0  # strength of the prior, slope 1 and shift 0
_MAX_LOG_ODDS = 9.0  # log-odds are clipped to this
_STEPS = 25  # of Newton's method, at most


@dataclass(frozen=True)
class LogOddsCalibration:
    """Platt scaling with one slope and one shift for all models: ``log-odds' = slope · log-odds + shift``.

    (Platt 1999, "Probabilistic outputs for support vector machines".) The shift can change decisions: if
    the models predict .4 where four of five rows have the tag, the result is above one half. The order of probabilities
    stays, since the slope is never below 0.
    """

    slope: float = 1.0
    shift: float = 0.0

    def __call__(self, probabilities: Probabilities) -> Probabilities:
        """Returns d x 2 calibrated probabilities, no and yes."""
        yes = expit(self.slope * _log_odds(probabilities) + self.shift)
        return np.stack([1 - yes, yes], axis=1)


def log_odds_calibration(probabilities: Probabilities, truth: NDArray[np.bool_]) -> LogOddsCalibration:
    """Fits the calibration by logistic regression.

    Args:
        probabilities: d x 2, no and yes, by models that were not fitted on the row's label.
        truth: d, whether yes is right.
    """
    features = np.stack([_log_odds(probabilities), np.ones(len(probabilities))], axis=1)
    identity = np.array([1.0, 0.0])
    coefficients = identity
    for _ in range(_STEPS):
        yes = expit(features @ coefficients)
        gradient = features.T @ (yes - truth) + _PULL * (coefficients - identity)
        hessian = (features.T * (yes * (1 - yes))) @ features + _PULL * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        coefficients = coefficients - step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-6:
            break
    return LogOddsCalibration(max(float(coefficients[0]), 0.0), float(coefficients[1]))


def _log_odds(probabilities: Probabilities) -> NDArray[np.float64]:
    floor = np.exp(-_MAX_LOG_ODDS)
    return np.log(np.maximum(probabilities[:, 1], floor)) - np.log(np.maximum(probabilities[:, 0], floor))

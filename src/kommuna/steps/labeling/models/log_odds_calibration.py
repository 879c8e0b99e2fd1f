"""What fixes the answers to many yes-or-no questions at once, where each has too few dev rows to fix its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from kommuna.steps.labeling.models.base import Beliefs

_PULL = 1.0  # to the model's own word, as so many rows
_SURE = 9.0  # log-odds beyond which answers are equally sure
_STEPS = 25  # of Newton's method, at most


@dataclass(frozen=True)
class LogOddsCalibration:
    """Two numbers for all questions: ``log-odds' = slope · log-odds + shift``.

    (Platt 1999, "Probabilistic outputs for support vector machines".) The shift changes answers: where each question's
    two or three dev rows leave a model at .4, and four in five of such answers are right, they become a yes. The order
    of answers stays, as the slope is never below 0.
    """

    slope: float = 1.0
    shift: float = 0.0

    def __call__(self, beliefs: Beliefs) -> Beliefs:
        """Lines of two probabilities, no and yes."""
        yes = expit(self.slope * _log_odds(beliefs) + self.shift)
        return np.stack([1 - yes, yes], axis=1)


def log_odds_calibration(beliefs: Beliefs, truth: NDArray[np.bool_]) -> LogOddsCalibration:
    """The calibration under which the answers are likeliest, by logistic regression.

    Args:
        beliefs: d x 2, no and yes, told by models that had not seen the row's label.
        truth: d, whether yes is right.
    """
    told = np.stack([_log_odds(beliefs), np.ones(len(beliefs))], axis=1)
    own = np.array([1.0, 0.0])
    found = own
    for _ in range(_STEPS):
        yes = expit(told @ found)
        slope = told.T @ (yes - truth) + _PULL * (found - own)
        curve = (told.T * (yes * (1 - yes))) @ told + _PULL * np.eye(2)
        step = np.linalg.solve(curve, slope)
        found = found - step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-6:
            break
    return LogOddsCalibration(max(float(found[0]), 0.0), float(found[1]))


def _log_odds(beliefs: Beliefs) -> NDArray[np.float64]:
    least = np.exp(-_SURE)
    return np.log(np.maximum(beliefs[:, 1], least)) - np.log(np.maximum(beliefs[:, 0], least))

"""Calibration of a classifier's scores on held-out rows: one factor for all of them and a shift of each tag.

Without the biases of vector scaling (Guo et al. 2017, arXiv:1706.04599, section 4.2) a classifier taught by labels
whose share of a rare tag is wrong is judged by that share alone: the shift of its prior (Saerens et al. 2002,
"Adjusting the outputs of a classifier to new a priori probabilities", Neural Computation 14).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.training.fit.soft_logistic import Link, Matrix

_RIDGE = 1.0  # of the shifts, in rows: few dev rows shift little
_FACTORS = (0.1, 10.0)


@dataclass(frozen=True)
class Scaling:
    """What is done to scores.

    Attributes:
        factor: above 0.
        shift: k; None shifts nothing.
    """

    factor: float = 1.0
    shift: NDArray[np.float32] | None = None

    def of(self, scores: Matrix) -> Matrix:
        """`n x k` calibrated scores."""
        scaled = np.float32(self.factor) * scores
        return scaled if self.shift is None else scaled + self.shift


def fit(scores: Matrix, labels: Matrix, link: Link) -> tuple[Scaling, float]:
    """The scaling of least log loss, and that loss.

    Args:
        scores: `n x k`, of held-out rows.
        labels: `n x k` zeros and ones.
        link: softmax for one tag a row, sigmoid for several.
    """
    from scipy.optimize import minimize
    from scipy.special import expit, log_softmax

    rows, k = scores.shape
    given = scores.astype(np.float64)

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        factor, shift = np.exp(parameters[0]), parameters[1:]
        z = factor * given + shift
        if link == "sigmoid":
            total = (np.logaddexp(0, z) - labels * z).sum()
            off = expit(z) - labels
        else:
            told = log_softmax(z, axis=1)
            total = -(labels * told).sum()
            off = np.exp(told) * labels.sum(axis=1, keepdims=True) - labels
        penalty = _RIDGE * shift @ shift / 2
        slope = np.concatenate([[factor * (off * given).sum()], off.sum(axis=0) + _RIDGE * shift])
        return float(total + penalty) / rows, slope / rows

    bounds = [tuple(np.log(_FACTORS)), *[(None, None)] * k]
    found = minimize(loss, np.zeros(k + 1), jac=True, method="L-BFGS-B", bounds=bounds)
    return Scaling(float(np.exp(found.x[0])), found.x[1:].astype(np.float32)), float(found.fun)

"""Calibration of a classifier's scores on held-out rows: one factor for all tags and a shift per tag.

Vector scaling (Guo et al. 2017, arXiv:1706.04599, section 4.2) with one factor. The shifts correct the prior of a
classifier whose training labels have a wrong share of a rare tag (Saerens et al. 2002,
"Adjusting the outputs of a classifier to new a priori probabilities", Neural Computation 14).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.training.fit.soft_logistic import Link, Matrix, log_losses

_RIDGE = 1.0  # of the shifts, in rows: few dev rows shift little
_FACTORS = (0.1, 10.0)


@dataclass(frozen=True)
class Scaling:
    """A calibration of scores.

    Attributes:
        factor: positive factor on all scores.
        shift: k shifts, added after the factor; None adds nothing.
    """

    factor: float = 1.0
    shift: NDArray[np.float32] | None = None

    def of(self, scores: Matrix) -> Matrix:
        """Returns `n x k` calibrated scores."""
        scaled = np.float32(self.factor) * scores
        return scaled if self.shift is None else scaled + self.shift


def fit(scores: Matrix, labels: Matrix, link: Link) -> tuple[Scaling, float]:
    """Fits the scaling of least log loss; returns it and that loss.

    Args:
        scores: `n x k` scores of held-out rows.
        labels: `n x k` zeros and ones.
        link: softmax for one tag per row, sigmoid for several.
    """
    from scipy.optimize import minimize
    from scipy.special import expit, log_softmax

    rows, k = scores.shape
    given = scores.astype(np.float64)

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        factor, shift = np.exp(parameters[0]), parameters[1:]
        z = factor * given + shift
        total = log_losses(z, labels, link).sum()
        if link == "sigmoid":
            off = expit(z) - labels
        else:
            off = np.exp(log_softmax(z, axis=1)) * labels.sum(axis=1, keepdims=True) - labels
        penalty = _RIDGE * shift @ shift / 2
        slope = np.concatenate([[factor * (off * given).sum()], off.sum(axis=0) + _RIDGE * shift])
        return float(total + penalty) / rows, slope / rows

    bounds = [tuple(np.log(_FACTORS)), *[(None, None)] * k]
    found = minimize(loss, np.zeros(k + 1), jac=True, method="L-BFGS-B", bounds=bounds)
    return Scaling(float(np.exp(found.x[0])), found.x[1:].astype(np.float32)), float(found.fun)

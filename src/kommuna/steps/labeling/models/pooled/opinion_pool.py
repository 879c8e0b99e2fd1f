"""Fits the weights of a logarithmic opinion pool on dev rows, and a correction of the pool."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import log_softmax

from kommuna.steps.labeling.models.base import softmax
from kommuna.steps.labeling.models.lift import Floats

_STEPS = 80  # at most
_NEWTON_STEPS = 30
_MIN_STEP = 1e-5  # smallest step of a weight
_GRADIENT_TOLERANCE = 1e-2  # the correction stops when no gradient is larger, in rows


def corrections(rows: sparse.csr_array, truth: Floats, offset: Floats, *, penalties: Sequence[float]) -> list[Floats]:
    """Fits a correction of given logits by the outcomes: f x k weights for each penalty.

    Multinomial logistic regression with an offset: ``P(y) ∝ exp(offset[row, y] + rows @ weight)``, the weights minimize
    ``- log likelihood + penalty / 2 · ‖weight‖²``. It assumes nothing about how rules
    depend on each other, so it corrects naive Bayes where there are many dev rows (Ng & Jordan 2002, "On discriminative
    vs. generative classifiers", NIPS), and changes little where there are few.

    It uses Nesterov's accelerated descent with restarts (O'Donoghue & Candès 2015); each penalty starts from the result
    of the one before. The best weights are ``rowsᵀ @ dual`` (the representer theorem), so it descends on d x k numbers
    instead of f x k: L-BFGS on the weights, as classifiers are fitted (`training/soft_logistic`), takes eight times as
    long on 1,000 dev rows, 10,000 outcomes and 50 tags.

    Args:
        rows: d x f, which outcomes happened.
        truth: d x k, 1 for the row's tag.
        offset: d x k logits, from models that did not learn from the row.
        penalties: largest first.
    """
    across = sparse.csr_array(rows.T)
    steepest = 0.5 * _largest_eigenvalue(rows, across)
    dual = np.zeros_like(truth)
    found: list[Floats] = []
    for penalty in penalties:
        rate = 1 / (steepest + penalty)
        ahead, momentum = dual, 1.0
        for _ in range(_STEPS):
            slope = softmax(rows @ (across @ ahead) + offset) - truth + penalty * ahead
            if np.abs(slope).max(initial=0) < _GRADIENT_TOLERANCE:
                break
            before, dual = dual, ahead - rate * slope
            if ((dual - before) * slope).sum() > 0:
                momentum = 1.0
            faster = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            ahead = dual + (momentum - 1) / faster * (dual - before)
            momentum = faster
        found.append(np.asarray(across @ dual))
    return found


def _largest_eigenvalue(rows: sparse.csr_array, across: sparse.csr_array) -> float:
    """Bounds the largest eigenvalue of ``rows @ rowsᵀ``: power iteration, plus a tenth for its error."""
    line = np.ones(rows.shape[0])
    size = 0.0
    for _ in range(10):
        line = rows @ (across @ line)
        size = float(np.linalg.norm(line))
        if size == 0:
            return 0.0
        line /= size
    return 1.1 * size


def pool_weights(opinions: Floats, truth: NDArray[np.int64], prior_weights: Floats, *, pull: float = 1.0) -> Floats:
    """Fits the weights of a logarithmic opinion pool, ``P(y) ∝ exp(Σ_e w[e] · opinions[e, row, y])``, w ≥ 0.

    (Genest & Zidek 1986, "Combining probability distributions", Statistical Science 1; weights from cross-fitted
    opinions are Wolpert's stacking, 1992.) With one opinion it is temperature scaling (Guo et al. 2017, "On
    calibration of modern neural networks"), so the pool is calibrated too.

    Args:
        opinions: e x d x k logits of rows that the opinions did not learn from.
        truth: d, the rows' tags.
        prior_weights: e, the mean of the weights' Gaussian prior.
        pull: precision of that prior; it matters where there are few rows.
    """
    observed = opinions[:, np.arange(len(truth)), truth].sum(axis=1)
    flat = opinions.reshape(len(opinions), -1)

    def loss(weights: Floats) -> float:
        log_posterior = log_softmax(np.tensordot(weights, opinions, 1), axis=1)
        return float(
            pull / 2 * ((weights - prior_weights) ** 2).sum() - log_posterior[np.arange(len(truth)), truth].sum()
        )

    weights, current = prior_weights, loss(prior_weights)
    for _ in range(_NEWTON_STEPS):
        posterior = softmax(np.tensordot(weights, opinions, 1))
        slope = flat @ posterior.reshape(-1) - observed + pull * (weights - prior_weights)
        mean = np.einsum("edk,dk->ed", opinions, posterior)
        curve = (flat * posterior.reshape(-1)) @ flat.T - mean @ mean.T + pull * np.eye(len(weights))
        free = np.flatnonzero((weights > 0) | (slope < 0))
        step = np.zeros_like(weights)
        step[free] = -np.linalg.solve(curve[np.ix_(free, free)], slope[free])
        length = 1.0
        while (proposed := loss(np.maximum(weights + length * step, 0))) > current and length > _MIN_STEP:
            length /= 2
        moved = np.maximum(weights + length * step, 0)
        if proposed > current or np.abs(moved - weights).max() < _MIN_STEP:
            break
        weights, current = moved, proposed
    return weights

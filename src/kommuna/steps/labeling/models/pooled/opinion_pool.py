"""Learns from dev rows what opinions are worth, and what they all miss."""

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
_SHORTEST = 1e-5  # step of a weight that is worth taking
_ENOUGH = 1e-2  # the largest slope, in rows, at which the correction is done


def corrections(rows: sparse.csr_array, truth: Floats, told: Floats, *, penalties: Sequence[float]) -> list[Floats]:
    """f x k weights for each penalty: what the outcomes say of the tag beyond what was told of the rows already.

    Multinomial logistic regression with an offset: ``P(y) ∝ exp(told[row, y] + rows @ weight)``, the weights minimise
    ``- log likelihood + penalty / 2 · ‖weight‖²``. It assumes nothing of how rules depend on each other, and so
    corrects naive Bayes where dev rows are many (Ng & Jordan 2002, "On discriminative vs. generative classifiers",
    NIPS), and leaves it alone where they are few.

    By Nesterov's accelerated descent with restarts (O'Donoghue & Candès 2015), each penalty from where the one before
    it ended. The best weights are ``rowsᵀ @ dual``, d x k numbers instead of f x k (the representer theorem), and those
    are what descends: L-BFGS on the weights, as classifiers are fitted (`training/soft_logistic`), takes eight times as
    long on 1,000 dev rows, 10,000 outcomes and 50 tags.

    Args:
        rows: d x f, which outcomes happened.
        truth: d x k, 1 for the row's tag.
        told: d x k logits, from models that did not learn from the row.
        penalties: the greatest first.
    """
    across = sparse.csr_array(rows.T)
    steepest = 0.5 * _largest_eigenvalue(rows, across)
    dual = np.zeros_like(truth)
    found: list[Floats] = []
    for penalty in penalties:
        rate = 1 / (steepest + penalty)
        ahead, momentum = dual, 1.0
        for _ in range(_STEPS):
            slope = softmax(rows @ (across @ ahead) + told) - truth + penalty * ahead
            if np.abs(slope).max(initial=0) < _ENOUGH:
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
    """Of ``rows @ rowsᵀ``, by power iteration from the all-positive start, a tenth added for what it falls short."""
    line = np.ones(rows.shape[0])
    size = 0.0
    for _ in range(10):
        line = rows @ (across @ line)
        size = float(np.linalg.norm(line))
        if size == 0:
            return 0.0
        line /= size
    return 1.1 * size


def pool_weights(opinions: Floats, truth: NDArray[np.int64], usual: Floats, *, pull: float = 1.0) -> Floats:
    """Weights of a logarithmic opinion pool, ``P(y) ∝ exp(Σ_e w[e] · opinions[e, row, y])``, w ≥ 0.

    (Genest & Zidek 1986, "Combining probability distributions", Statistical Science 1; weights from cross-fitted
    opinions are Wolpert's stacking, 1992.) Of one opinion it is temperature scaling (Guo et al. 2017, "On calibration
    of modern neural networks"), so what is pooled is calibrated too.

    Args:
        opinions: e x d x k logits of rows that the opinions did not learn from.
        truth: d, the rows' tags.
        usual: e weights without rows to learn from.
        pull: weight of the pull to the usual weights, which matters where rows are few.
    """
    told = opinions[:, np.arange(len(truth)), truth].sum(axis=1)
    flat = opinions.reshape(len(opinions), -1)

    def loss(weights: Floats) -> float:
        log_belief = log_softmax(np.tensordot(weights, opinions, 1), axis=1)
        return float(pull / 2 * ((weights - usual) ** 2).sum() - log_belief[np.arange(len(truth)), truth].sum())

    weights, now = usual, loss(usual)
    for _ in range(_NEWTON_STEPS):
        belief = softmax(np.tensordot(weights, opinions, 1))
        slope = flat @ belief.reshape(-1) - told + pull * (weights - usual)
        mean = np.einsum("edk,dk->ed", opinions, belief)
        curve = (flat * belief.reshape(-1)) @ flat.T - mean @ mean.T + pull * np.eye(len(weights))
        free = np.flatnonzero((weights > 0) | (slope < 0))
        step = np.zeros_like(weights)
        step[free] = -np.linalg.solve(curve[np.ix_(free, free)], slope[free])
        length = 1.0
        while (then := loss(np.maximum(weights + length * step, 0))) > now and length > _SHORTEST:
            length /= 2
        moved = np.maximum(weights + length * step, 0)
        if then > now or np.abs(moved - weights).max() < _SHORTEST:
            break
        weights, now = moved, then
    return weights

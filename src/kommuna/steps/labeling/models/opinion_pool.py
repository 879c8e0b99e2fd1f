"""Learns from dev rows alone: ridge regression of the tag on the outcomes, and the weights of pooled opinions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.labeling.models.naive_bayes import Evidence, Floats, Linear

_STEPS = 60  # of L-BFGS; the penalty makes more of them change nothing that matters


def regression(seen: Evidence, *, penalty: float = 1.0) -> Linear:
    """Multinomial logistic regression of the dev rows' tag on which outcomes happened.

    It assumes nothing of how rules depend on each other, and so corrects naive Bayes where dev rows are many
    (Ng & Jordan 2002, "On discriminative vs. generative classifiers", NIPS). The bias is the dev rows' prior; the
    weights minimise ``- log likelihood + penalty / 2 · ‖weight‖²``.
    """
    from scipy.optimize import minimize

    bias, shape = seen.log_prior(), (len(seen.outcomes), seen.truth.shape[1])

    def loss(flat: Floats) -> tuple[float, Floats]:
        weight = flat.reshape(shape)
        log_belief = _log_softmax(np.asarray(seen.dev @ weight + bias))
        slope = seen.dev.T @ (np.exp(log_belief) - seen.truth) + penalty * weight
        return float(-(log_belief * seen.truth).sum() + penalty / 2 * (flat @ flat)), slope.reshape(-1)

    start = np.zeros(shape[0] * shape[1])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS})
    return Linear(np.asarray(found.x).reshape(shape), bias)


def pool_weights(opinions: Floats, truth: NDArray[np.int64], *, shrink: float = 1.0) -> Floats:
    """Weights of a logarithmic opinion pool, ``P(y) ∝ exp(Σ_e w[e] · opinions[e, row, y])``, w ≥ 0.

    (Genest & Zidek 1986, "Combining probability distributions", Statistical Science 1; weights from cross-fitted
    opinions are Wolpert's stacking, 1992.) Of one opinion it is temperature scaling (Guo et al. 2017, "On calibration
    of modern neural networks"), so what is pooled is calibrated too.

    Args:
        opinions: e x d x k logits of rows that the opinions did not learn from.
        truth: d, the rows' tags.
        shrink: weight of the pull to equal weights, which matters where rows are few.
    """
    from scipy.optimize import minimize

    equal = np.full(len(opinions), 1 / len(opinions))
    told = opinions[:, np.arange(len(truth)), truth].sum(axis=1)

    def loss(weights: Floats) -> tuple[float, Floats]:
        log_belief = _log_softmax(np.tensordot(weights, opinions, 1))
        likelihood = log_belief[np.arange(len(truth)), truth].sum()
        slope = np.tensordot(opinions, np.exp(log_belief), 2) - told + shrink * (weights - equal)
        return float(-likelihood + shrink / 2 * ((weights - equal) ** 2).sum()), slope

    found = minimize(loss, equal, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(equal))
    return np.asarray(found.x)


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))

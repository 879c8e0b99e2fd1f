"""Leave-one-out agreement: weights of rules by their agreement with the other rules, without dev rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from kommuna.steps.labeling.models.base import softmax
from kommuna.steps.labeling.models.lift import Floats
from kommuna.steps.labeling.models.naive_bayes import LinearLogits
from kommuna.steps.labeling.models.outcomes import Outcomes

_ROUNDS, _STEP = (
    2,
    0.5,
)  # few and small: rules are not independent, and iterated to convergence the posterior drifts from the tags
_DEFAULT_ACCURACY = 0.7  # prior accuracy of an outcome
_MAX_RATE = 0.97  # highest share of a tag's rows on which an outcome can happen
_BLOCK = 1_000_000  # votes x tags


def leave_one_out_agreement(
    found: Outcomes, indicators: sparse.csr_array, counts: Floats, frequency: Floats
) -> LinearLogits:
    """Weighs each outcome by the posterior of the other outcomes on the rows where it happened.

    An outcome's own vote is left out, unlike in Dawid and Skene's model, where a rule that votes often seems accurate
    because it votes. (The posteriors without it are the cavity distributions of expectation propagation, Minka 2001.)
    With b the posterior, and b[-f] the posterior without the outcome f, on covered rows::

        b[row, y]   ∝  Π share[f, y] / T[y]   (the outcomes f that happened)
        T[y]        =  mean of b[row, y]
        share[f, y] =  (Σ b[-f][row, y] + N · a[f, y]) / (rows + N)   (rows where f happened and another did)

    so an outcome that occurs with many tags has little weight, and a tag is not likelier because many rules vote for
    it. The prior a has the accuracy .7, or less where the outcome happens more often than its tags could if all tags
    were equally common; its weight N is that of all rows of a tag plus one.

    No vote makes another tag likelier than its own: the other rules can weaken a rule, but not reverse it, and where it
    votes alone its tag is the likeliest.

    Args:
        found: f outcomes of k tags.
        indicators: P x f, on the distinct patterns.
        counts: P, rows with the pattern; 0 where it has no vote.
        frequency: f, the share of all rows, with or without votes, on which the outcome happened.
    """
    k = found.owners.shape[1]
    rows = counts.sum()
    prior_rows = rows / k + 1
    owned = found.owners.sum(axis=1)
    accuracy = np.minimum(_DEFAULT_ACCURACY, _MAX_RATE * owned / k / frequency)
    elsewhere = (1 - accuracy) / np.maximum(k - owned, 1)
    prior = np.where(found.owners, (accuracy / owned)[:, None], elsewhere[:, None])
    others_too = counts * (np.diff(indicators.indptr) > 1)
    joint = sparse.csr_array(sparse.diags_array(others_too) @ indicators).tocoo()
    judged = np.bincount(joint.col, weights=joint.data, minlength=len(found))
    weight = _centred(np.log(prior))
    for _ in range(_ROUNDS):
        posterior, without = softmax(indicators @ weight), np.exp(-weight)
        cavity_scale = joint.data / _inner(posterior, without, joint.row, joint.col)
        support = without * (
            sparse.csr_array((cavity_scale, (joint.col, joint.row)), shape=indicators.shape[::-1]) @ posterior
        )
        share = (support + prior_rows * prior) / (judged + prior_rows)[:, None]
        tags = (counts @ posterior + 1) / (rows + k)
        weight += _STEP * (_centred(np.log(share) - np.log(tags)) - weight)
    own = np.where(found.owners, weight, np.inf).min(axis=1, keepdims=True)
    return LinearLogits(np.where(found.owners, weight, np.minimum(weight, own)), np.zeros(weight.shape[1]))


def _inner(cavity_scale: Floats, right: Floats, rows: NDArray[np.int32], columns: NDArray[np.int32]) -> Floats:
    """``(cavity_scale @ right.T)[rows, columns]`` of P x k and f x k, of those cells alone."""
    out = np.empty(len(rows))
    block = max(_BLOCK // cavity_scale.shape[1], 1)
    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        np.einsum("qk,qk->q", cavity_scale[rows[part]], right[columns[part]], out=out[part])
    return out


def _centred(logs: Floats) -> Floats:
    return np.asarray(logs - logs.mean(axis=1, keepdims=True))

"""What rules are worth by the word of the others: an opinion on the votes that needs no dev rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from kommuna.steps.labeling.models.base import softmax
from kommuna.steps.labeling.models.lift import Floats
from kommuna.steps.labeling.models.naive_bayes import Linear
from kommuna.steps.labeling.models.outcomes import Outcomes

_ROUNDS, _STEP = 2, 0.5  # few and half: rules are not independent, and beliefs run to the end drift from the tags
_DEFAULT_ACCURACY = 0.7  # of an outcome that others have not judged
_SURE = 0.97  # share of a tag's rows that an outcome is thought to happen on, at most
_AT_ONCE = 1_000_000  # votes x tags


def judged_by_others(found: Outcomes, happened: sparse.csr_array, counts: Floats, frequency: Floats) -> Linear:
    """Finds each outcome's word in the beliefs that the other outcomes give where it happened.

    Its own vote does not speak for it, as it does in Dawid and Skene's model, where a rule that votes often seems
    right because it votes (the beliefs without it are the cavity distributions of expectation propagation, Minka
    2001). With b the beliefs, b[-f] those without the outcome f, on covered rows::

        b[row, y]   ∝  Π share[f, y] / T[y]   (the outcomes f that happened)
        T[y]        =  mean of b[row, y]
        share[f, y] =  (Σ b[-f][row, y] + N · a[f, y]) / (rows + N)   (rows where f happened and another did)

    so an outcome that comes with many tags says little, and a tag that many rules vote for is not the likelier for it.
    The prior a has the accuracy .7, less where the outcome happens more often than its tags can, all tags thought
    equally common; it weighs as much as all rows of a tag and one more.

    No vote makes another tag likelier than its own: the others can weaken a rule, not turn it round, and where it
    speaks alone it stands.

    Args:
        found: f outcomes of k tags.
        happened: P x f, on the distinct patterns.
        counts: P, rows with the pattern; 0 where it has no vote.
        frequency: f, the share of all rows, with votes or without, on which the outcome happened.
    """
    k = found.owners.shape[1]
    rows = counts.sum()
    prior_rows = rows / k + 1
    owned = found.owners.sum(axis=1)
    accuracy = np.minimum(_DEFAULT_ACCURACY, _SURE * owned / k / frequency)
    elsewhere = (1 - accuracy) / np.maximum(k - owned, 1)
    prior = np.where(found.owners, (accuracy / owned)[:, None], elsewhere[:, None])
    others_too = counts * (np.diff(happened.indptr) > 1)
    met = sparse.csr_array(sparse.diags_array(others_too) @ happened).tocoo()
    judged = np.bincount(met.col, weights=met.data, minlength=len(found))
    weight = _centred(np.log(prior))
    for _ in range(_ROUNDS):
        belief, without = softmax(happened @ weight), np.exp(-weight)
        left = met.data / _inner(belief, without, met.row, met.col)
        told = without * (sparse.csr_array((left, (met.col, met.row)), shape=happened.shape[::-1]) @ belief)
        share = (told + prior_rows * prior) / (judged + prior_rows)[:, None]
        tags = (counts @ belief + 1) / (rows + k)
        weight += _STEP * (_centred(np.log(share) - np.log(tags)) - weight)
    own = np.where(found.owners, weight, np.inf).min(axis=1, keepdims=True)
    return Linear(np.where(found.owners, weight, np.minimum(weight, own)), np.zeros(k))


def _inner(left: Floats, right: Floats, rows: NDArray[np.int32], columns: NDArray[np.int32]) -> Floats:
    """``(left @ right.T)[rows, columns]`` of P x k and f x k, of those cells alone."""
    out = np.empty(len(rows))
    block = max(_AT_ONCE // left.shape[1], 1)
    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        np.einsum("qk,qk->q", left[rows[part]], right[columns[part]], out=out[part])
    return out


def _centred(logs: Floats) -> Floats:
    return np.asarray(logs - logs.mean(axis=1, keepdims=True))

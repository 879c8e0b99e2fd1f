"""Estimates of each rule under a fitted label model: conditional probabilities, class balance, accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from kommuna.steps.labeling.models.base import DevRows, Predict
from kommuna.steps.labeling.models.snorkel.library import SnorkelModel
from kommuna.steps.labeling.models.snorkel.sparse import SnorkelFast
from kommuna.steps.labeling.votes.patterns import ABSTAIN, Codes, VotePatterns

Floats = NDArray[np.float64]

BLOCK = 50_000  # patterns predicted together: bounds memory


@dataclass(frozen=True)
class Estimates:
    """A model's estimates of m rules on k tags.

    Attributes:
        conditional: m x (k + 1) x k, the probability that a rule abstains (first) or votes for each tag, given the tag.
        balance: k, the share of each tag.
        accuracy: m, the share of a rule's votes that are right; NaN where it never votes.
    """

    conditional: Floats
    balance: Floats
    accuracy: Floats


def own_estimates(model: SnorkelFast | SnorkelModel, votes: VotePatterns) -> Estimates:
    """Returns the parameters of Snorkel's model; accuracies are what the library calls weights.

    Args:
        model: a fitted model of Snorkel's kind.
        votes: the votes that it was fitted on.
    """
    conditional, balance = model.conditional_probabilities(), model.balance
    tags = np.arange(len(balance))
    right = conditional[:, 1 + tags, tags] @ balance
    covered = votes.counts @ (votes.votes != ABSTAIN) / votes.rows
    accuracy = np.clip(right / np.where(covered > 0, covered, np.nan), 1e-6, 1)
    return Estimates(conditional, balance, accuracy)


def estimates(predict: Predict, votes: VotePatterns, dev: DevRows | None) -> Estimates:
    """Estimates any model's rules from its own probabilities, by the M-step of Dawid & Skene (1979).

    ``P(rule j votes v | tag y) = Σ posterior[row, y] (rows where it does) / Σ posterior[row, y] (all rows)``. A dev row
    has its true tag; a row without a vote has the class balance of the others. The estimates are as good as the model's
    probabilities: those of `majority`, which are shares of votes, are underconfident. A vote against a tag is right on
    a row with another tag, and counts as a vote for none.

    Args:
        predict: the model's `predict`.
        votes: the votes that it was fitted on.
        dev: the dev rows, if there are any.
    """
    m, k = len(votes.rules), len(votes.tags)
    parts = [slice(start, start + BLOCK) for start in range(0, len(votes.counts), BLOCK)]
    seen = [(votes.votes[part][votes.covered[part]], votes.counts[part][votes.covered[part], None]) for part in parts]
    rows = [(cast, predict(cast) * counts) for cast, counts in seen if len(cast)]
    if dev is not None:
        rows.append((dev.votes, np.eye(k)[dev.truth]))
    tags = np.asarray(sum((posterior.sum(axis=0) for _, posterior in rows), np.zeros(k)))
    balance = tags / tags.sum() if tags.sum() else np.full(k, 1 / k)
    joint = np.asarray(sum((_one_hot(cast, k).T @ posterior for cast, posterior in rows), np.zeros((m * 2 * k, k))))
    joint = joint.reshape(m, 2 * k, k)
    for_tag, against = joint[:, :k], joint[:, k:]
    right = np.trace(for_tag, axis1=1, axis2=2) + against.sum(axis=(1, 2)) - np.trace(against, axis1=1, axis2=2)
    cast = joint.sum(axis=(1, 2))
    tag_rows = tags + balance * float(votes.counts[~votes.covered].sum())
    conditional = for_tag / np.maximum(tag_rows, 1e-300)
    abstains = np.maximum(1 - joint.sum(axis=1, keepdims=True) / np.maximum(tag_rows, 1e-300), 0)
    return Estimates(np.concatenate([abstains, conditional], axis=1), balance, right / np.where(cast > 0, cast, np.nan))


def _one_hot(votes: Codes, k: int) -> sparse.csr_array:
    """P x (m 2k): 1 where the rule casts the vote."""
    rows, rules = np.nonzero(votes >= 0)
    column = rules * (2 * k) + votes[rows, rules]
    return sparse.csr_array((np.ones(len(rows)), (rows, column)), shape=(len(votes), votes.shape[1] * 2 * k))

"""Dawid and Skene's model by EM, on distinct vote patterns, with priors that keep it from drifting."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from kommuna.steps.labeling.models.base import BaseLabelModel, Beliefs, DevRows, shares, tally
from kommuna.steps.labeling.models.outcomes import Outcomes, outcomes
from kommuna.steps.labeling.patterns import Codes, VotePatterns

_DEFAULT_ACCURACY = 0.7  # of a rule that no dev row has judged
_ACCURACY_ROWS = 4.0  # dev rows that the rules' pooled accuracy weighs against a rule's own
_UNLABELED_SHARE = 0.25  # weight of all unlabeled rows together, in dev rows
_EDGE = 1e-6


class DawidSkene(BaseLabelModel):
    """Rules as witnesses that err independently, given the row's tag.

    With tag y, weights ``pi[y]`` and outcomes f (`Outcomes`), a pattern's belief is naive Bayes'::

        P(y | votes)  ∝  pi[y] · Π theta[f, y]  (those that happened)  · Π (1 - theta[f, y])  (one-sided, did not)

    and EM alternates it with the expected frequencies ``theta[f, y]`` (Dawid & Skene 1979, "Maximum likelihood
    estimation of observer error-rates using the EM algorithm", Applied Statistics 28). Three additions:

    - *A prior bound to coverage.* An outcome that happens on a share c of the rows, with accuracy a, for the tags O,
      has ``theta[f, y] = c · a / pi(O)`` for y in O and ``c · (1 - a) / (1 - pi(O))`` for the rest: however it is
      split among tags, it adds up to what is seen. a is the share of right dev rows, shrunk to the rules' pooled share.
    - *Dev rows as evidence.* They are counted with their true tag; all unlabeled rows together weigh a quarter of
      them (Nigam et al. 2000, "Text classification from labeled and unlabeled documents using EM", section 5.3.1).
    - *Few iterations.* Rules are not independent, and EM run to the end drifts from the tags to whatever splits the
      votes best: on Banking77, TREC and SMS it ends below the majority vote that it starts from.

    Args:
        iterations: EM steps.
        prior_rows: weight of the prior, in rows of a tag.
        prior_share: where dev rows do not outnumber the tags, its further weight as a share of a tag's rows; with 0
            the model is Dawid and Skene's own.
    """

    def __init__(self, *, iterations: int = 5, prior_rows: float = 1.0, prior_share: float = 0.3) -> None:
        self._iterations = iterations
        self._prior_rows = prior_rows
        self._prior_share = prior_share

    def fit(self, votes: VotePatterns, dev: DevRows | None = None) -> Self:
        """Fits on all covered rows. Fewer dev rows than tags are evidence, but do not set the class prior."""
        k = len(votes.tags)
        dev = (
            dev
            if dev is not None
            else DevRows(np.zeros((0, len(votes.rules)), dtype=np.int16), np.zeros(0, dtype=np.int64))
        )
        self.outcomes = outcomes(votes.votes, k, dev.votes, votes.counts)
        weight = votes.counts * votes.covered.astype(np.float64)
        happened = self.outcomes.happened(votes.votes)
        dev_happened = self.outcomes.happened(dev.votes)
        dev_truth = np.eye(k)[dev.truth]
        enough = len(dev) >= k
        if enough:
            weight *= min(1.0, _UNLABELED_SHARE * len(dev) / max(weight.sum(), 1.0))
        belief = shares(tally(votes.votes, k))
        tags = dev_truth.sum(axis=0) if enough else belief.T @ weight
        self._prior = (tags + 1) / (tags.sum() + k)
        seen = self.outcomes.rows / max(votes.counts.sum() + len(dev), 1)
        dev_counts = dev_happened.T @ dev_truth
        base = coverage_bound(self.outcomes, seen, dev_counts, self._prior)
        strength = self._prior_rows + (0.0 if enough else self._prior_share * weight.sum()) * self._prior
        if enough:
            theta = self._theta(dev_counts, dev_truth.sum(axis=0), base, strength)
            belief = self._beliefs(happened, theta)
        for _ in range(self._iterations):
            weighted = belief * weight[:, None]
            if not enough:
                self._prior = (weighted.sum(axis=0) + 1) / (weight.sum() + k)
            theta = self._theta(
                happened.T @ weighted + dev_counts, weighted.sum(axis=0) + dev_truth.sum(axis=0), base, strength
            )
            belief = self._beliefs(happened, theta)
        self.theta = theta
        return self

    def predict(self, votes: Codes) -> Beliefs:
        return self._beliefs(self.outcomes.happened(votes), self.theta)

    def _theta(
        self,
        happened: NDArray[np.float64],
        rows: NDArray[np.float64],
        base: NDArray[np.float64],
        strength: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Expected frequencies (f x k) from expected counts (f x k) and expected rows of each tag (k)."""
        out_of = np.where(self.outcomes.one_sided[:, None], rows, self.outcomes.by_rule(happened))
        return np.clip((happened + strength * base) / (out_of + strength), _EDGE, 1 - _EDGE)

    def _beliefs(self, happened: sparse.csr_array, theta: NDArray[np.float64]) -> Beliefs:
        weight = np.log(theta)
        one_sided = np.flatnonzero(self.outcomes.one_sided)
        silence = np.log1p(-theta[one_sided])
        weight[one_sided] -= silence
        logs = happened @ weight + (silence.sum(axis=0) + np.log(self._prior))
        logs -= logs.max(axis=1, keepdims=True)
        return shares(np.exp(logs))


def coverage_bound(
    found: Outcomes, seen: NDArray[np.float64], dev_counts: NDArray[np.float64], prior: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The prior of theta (see `DawidSkene`), f x k."""
    right = np.where(found.owners, dev_counts, 0).sum(axis=1)
    judged = dev_counts.sum(axis=1)
    pooled = (right.sum() + _DEFAULT_ACCURACY * _ACCURACY_ROWS) / (judged.sum() + _ACCURACY_ROWS)
    accuracy = (right + pooled * _ACCURACY_ROWS) / (judged + _ACCURACY_ROWS)
    owned = found.owners @ prior
    inside = (accuracy / np.maximum(owned, _EDGE))[:, None]
    outside = ((1 - accuracy) / np.maximum(1 - owned, _EDGE))[:, None]
    base = np.where(found.owners, inside, outside) * seen[:, None]
    among = base / np.maximum(found.by_rule(base), 1e-12)
    return np.asarray(np.where(found.one_sided[:, None], np.clip(base, _EDGE, 0.97), among))

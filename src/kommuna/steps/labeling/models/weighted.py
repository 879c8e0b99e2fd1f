"""The weighted vote: each rule's vote counts by the log-odds of its accuracy."""

from __future__ import annotations

from typing import Self

import numpy as np

from kommuna.steps.labeling.models.base import BaseLabelModel, Beliefs, DevRows
from kommuna.steps.labeling.patterns import Codes, VotePatterns

_PRIOR_ROWS = 4.0  # weight of the Beta prior, in dev rows
_DEFAULT_ACCURACY = 0.7  # of a rule where no dev row has judged any; Snorkel's initial precision too


class Weighted(BaseLabelModel):
    """Independent rules that are right with probability a and else wrong on any other tag alike.

    Then the best vote is a sum of weights (Nitzan & Paroush 1982, "Optimal decision rules in uncertain dichotomous
    choice situations", International Economic Review 23; for k tags Li & Yu 2014, "Error rate bounds and iterative
    weighted majority voting for crowdsourcing", eq. 9)::

        P(y | votes)  ∝  pi[y] · exp( Σ log( (k - 1) a / (1 - a) ) )        over the rules that vote for y

    A vote against a tag is right with probability a and adds ``log((1 - a) / ((k - 1)^-1 a))`` to its own tag.
    a is the mean of ``Beta(s p + right, s (1 - p) + wrong)``: dev rows on which the rule votes, and a prior of s = 4
    rows at the rules' pooled accuracy p, itself shrunk to .7. A rule that is worse than chance votes against its tag.
    pi is the tags' share among the dev rows, one row a tag added.
    """

    def fit(self, votes: VotePatterns, dev: DevRows | None = None) -> Self:
        """Judges the rules on the dev rows; without them each rule has the same weight."""
        self._k = k = len(votes.tags)
        right, judged = np.zeros(len(votes.rules)), np.zeros(len(votes.rules))
        tags = np.zeros(k)
        if dev is not None and len(dev):
            for_tag = (dev.votes >= 0) & (dev.votes < k)
            against = dev.votes >= k
            is_truth = dev.votes % k == dev.truth[:, None]
            right = ((for_tag & is_truth) | (against & ~is_truth)).sum(axis=0, dtype=np.float64)
            judged = (for_tag | against).sum(axis=0, dtype=np.float64)
            tags = np.bincount(dev.truth, minlength=k).astype(np.float64)
        pooled = (right.sum() + _PRIOR_ROWS * _DEFAULT_ACCURACY) / (judged.sum() + _PRIOR_ROWS)
        self.accuracy = (right + _PRIOR_ROWS * pooled) / (judged + _PRIOR_ROWS)
        self._log_prior = np.log((tags + 1) / (tags.sum() + k))
        return self

    def predict(self, votes: Codes) -> Beliefs:
        others = max(self._k - 1, 1)
        for_tag = np.log(others * self.accuracy / (1 - self.accuracy))
        against = np.log((1 - self.accuracy) * others / self.accuracy)
        logs = np.tile(self._log_prior, (len(votes), 1))
        for j, column in enumerate(votes.T):
            voted = np.flatnonzero(column >= 0)
            vote = column[voted]
            logs[voted, vote % self._k] += np.where(vote < self._k, for_tag[j], against[j])
        beliefs = np.exp(logs - logs.max(axis=1, keepdims=True))
        return np.asarray(beliefs / beliefs.sum(axis=1, keepdims=True))

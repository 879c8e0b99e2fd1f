"""The weighted vote: each rule's vote is weighted by its lift."""

from __future__ import annotations

from typing import Self

import numpy as np

from kommuna.steps.labeling.models.base import (
    BaseLabelModel,
    DevRows,
    Probabilities,
    candidate_tags,
    limit_to_candidates,
    softmax,
)
from kommuna.steps.labeling.models.lift import default_lift, estimated_lift
from kommuna.steps.labeling.votes.patterns import CastVotes, Codes, VotePatterns


class Weighted(BaseLabelModel):
    """Independent rules, each of which raises the log-odds of its vote by one lift for all tags.

    Under this assumption the optimal decision is a weighted vote (Nitzan & Paroush 1982, "Optimal decision rules in
    uncertain dichotomous choice situations", International Economic Review 23; for k tags Li & Yu 2014, "Error rate
    bounds and iterative
    weighted majority voting for crowdsourcing", eq. 9)::

        P(y | votes)  ∝  pi[y] · exp( Σ lift )        over the rules that vote for y, less those that vote against it

    A lift is estimated on the dev rows on which the rule votes, relative to the tags' base rates (`estimated_lift`): 7
    of 7 right votes for a tag of 2 % give a higher lift than 7 of 7 for a tag of 50 %. Without dev rows all votes for a
    tag have the same weight. pi is the tags' share among the dev rows, with one row added per tag.
    """

    def fit(self, votes: VotePatterns, dev: DevRows | None = None) -> Self:
        """Estimates the rules' lifts on the dev rows."""
        self._k = k = len(votes.tags)
        dev = DevRows.none(votes) if dev is None else dev
        tags = np.bincount(dev.truth, minlength=k).astype(np.float64)
        self._known = tags > 0
        self._voted_tags = np.isin(np.arange(k), votes.votes)
        prior = (tags + 1) / (tags.sum() + k)
        self._log_prior = np.log(prior)
        m = len(votes.rules)
        right, cast = np.zeros((m, 2 * k)), np.zeros((m, 2 * k))
        rows, rules = np.nonzero(dev.votes >= 0)
        code = dev.votes[rows, rules]
        is_right = (code % k == dev.truth[rows]) == (code < k)
        np.add.at(cast, (rules, code), 1.0)
        np.add.at(right, (rules, code), is_right)
        base_rate = np.tile(np.append(prior, 1 - prior), (m, 1))
        only_against = ((votes.votes >= k).any(axis=0) | (dev.votes >= k).any(axis=0)) & ~(
            ((votes.votes >= 0) & (votes.votes < k)).any(axis=0) | ((dev.votes >= 0) & (dev.votes < k)).any(axis=0)
        )
        prior_lift = default_lift(np.where(only_against, max(k - 1, 1), 1), k)
        self.lift = estimated_lift(base_rate, right, cast, prior_lift)
        return self

    def predict(self, votes: Codes) -> Probabilities:
        """Returns P x k probabilities; see `BaseLabelModel.predict`."""
        logits = np.tile(self._log_prior, (len(votes), 1))
        for j, column in enumerate(votes.T):
            voted = np.flatnonzero(column >= 0)
            vote = column[voted]
            logits[voted, vote % self._k] += np.where(vote < self._k, self.lift[j], -self.lift[j])
        return limit_to_candidates(softmax(logits), candidate_tags(CastVotes.of(votes), self._known, self._voted_tags))

"""The part of the `kommuna` model that is fitted on votes alone, without dev rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from scipy import sparse

from kommuna.steps.labeling.models.base import (
    BaseLabelModel,
    DevRows,
    Probabilities,
    candidate_tags,
    limit_to_candidates,
    softmax,
)
from kommuna.steps.labeling.models.dawid_skene import COPY
from kommuna.steps.labeling.models.lift import Floats
from kommuna.steps.labeling.models.naive_bayes import Estimate, LinearLogits, NaiveBayes, OutcomeData
from kommuna.steps.labeling.models.outcomes import Outcomes
from kommuna.steps.labeling.models.pooled.leave_one_out_agreement import leave_one_out_agreement
from kommuna.steps.labeling.models.pooled.weighted_majority import with_weighted_majority
from kommuna.steps.labeling.votes.patterns import CastVotes, Codes, VotePatterns

_HALF = 0.5  # weight of the agreement of a rule that votes for one tag; the count of votes has the rest
_DEPENDENT = 0.05  # mean excess correlation from which abstentions are ignored
_ROWS_PER_PAIR = 25.0  # rows per pair of tags at which independent rules have half of their weight
_STANDS = 0.1  # lead of the tag with the most votes, in nats


@dataclass(frozen=True)
class Opinion:
    """Logits for the two assumptions of `VotesOnly`, and the weight of the second.

    Attributes:
        outcomes: the f outcomes.
        linear: logits for independent rules, already weighted.
        dependent: logits for dependent rules, before the count of votes is added.
        dependent_weight: weight of the logits for dependent rules.
    """

    outcomes: Outcomes
    linear: LinearLogits
    dependent: LinearLogits
    dependent_weight: float

    def logits(self, votes: CastVotes) -> Floats:
        """Returns P x k logits, before `limit_to_candidates`.

        Args:
            votes: the votes cast in P patterns.
        """
        indicators = self.outcomes.indicators(votes)
        if not self.outcomes.one_sided.any():  # both parts are linear
            return self._combined.logits(indicators)
        logits = self.linear.logits(indicators)
        if self.dependent_weight:
            logits += self.dependent_weight * self._dependent_logits(indicators)
        return logits

    @cached_property
    def _combined(self) -> LinearLogits:
        return self.linear.plus(self.dependent, self.dependent_weight)

    @cached_property
    def _one_sided_owners(self) -> Floats:
        return (self.outcomes.owners * self.outcomes.one_sided[:, None]).astype(np.float64)

    def _dependent_logits(self, indicators: sparse.csr_array) -> Floats:
        logits = self.dependent.logits(indicators)
        one_sided = self.outcomes.one_sided
        for_one = indicators @ self._one_sided_owners
        logits += np.log1p(for_one * logits.shape[1])
        first, second = -np.partition(-for_one, 1, axis=1)[:, :2].T if for_one.shape[1] > 1 else (for_one[:, 0], 0)
        leading = np.flatnonzero((first > second) & ~(indicators @ ~one_sided).astype(bool))
        tag = for_one[leading].argmax(axis=1)
        logits[leading, tag] = np.maximum(logits[leading, tag], logits[leading].max(axis=1) + _STANDS)
        return logits


class VotesOnly(BaseLabelModel):
    """Averages two models of the votes: independent rules and dependent rules.

    - *Independent rules* (`NaiveBayes`): uses abstentions and the tags' shares. Where rules err independently, it is
      far better than the majority vote, most of all where tags are rare.
    - *Dependent rules*: keywords occur in the same sentences and abstain together, and how many rules a tag has is
      their author's choice. This model uses only votes that were cast: ``log(votes for the tag + 1/k)`` as in the
      majority vote, plus half of the rules' `leave_one_out_agreement`. A tag with more votes than any other stays the
      likeliest, so agreement only decides ties.

    In the second model a rule that votes for several tags is weighted by how often it agrees with the others
    (`with_weighted_majority`); where all rules do, only this model is used. Both discount near copies.

    The logits are averaged with the weights s and 1 - s, ``s = n / (n + 25 k²) · I · max(0, 1 - D / .05)`` for n rows
    and k tags. I is the share of tags that can be learned from votes alone (`identified_tags`): where most tags have
    one or two rules, EM invents their shares, and loses .10 of accuracy to the majority vote (100 rules, 50 tags). D
    measures dependence (`dependence`): the mean over outcomes of the largest correlation with another rule's outcome
    beyond what the tags explain, minus what chance gives; near copies are ignored. On thousands of votes generated
    independently, with or without copies, D is below .02; on the training rows of seven text data sets it is .027 to
    .13.

    A tag without a vote on a row is never its likeliest, so a row whose votes all agree gets their tag.

    Args:
        seed: seed of the sample of rows that it is fitted on.
    """

    learns_from_dev = False

    def __init__(self, *, seed: int = 0) -> None:
        self._seed = seed

    def fit(self, votes: VotePatterns, dev: DevRows | None = None) -> Self:
        """Fits the model on the votes; dev rows are ignored."""
        self._k = len(votes.tags)
        self._opinion, _ = learn_from_votes(OutcomeData.of(votes, DevRows.none(votes), sample_seed=self._seed))
        return self

    def predict(self, votes: Codes) -> Probabilities:
        """Returns P x k probabilities; see `BaseLabelModel.predict`."""
        cast = CastVotes.of(votes)
        probabilities = softmax(self._opinion.logits(cast))
        return limit_to_candidates(
            probabilities, candidate_tags(cast, np.zeros(self._k, dtype=bool), self._opinion.outcomes.voted_tags)
        )


def learn_from_votes(data: OutcomeData) -> tuple[Opinion, LinearLogits]:
    """Fits `VotesOnly` without dev rows; returns its opinion, and the logits of agreement at full weight."""
    found = data.outcomes
    naive_bayes = NaiveBayes(iterations=15 if found.one_sided.any() else 3, doubt=1.0, doubted_from=COPY)
    estimate = naive_bayes.fit(data.without(np.ones(len(data.truth), dtype=bool)))
    rows = data.counts.sum()
    s = 0.0
    if found.one_sided.any():
        few_rows = _ROWS_PER_PAIR * data.truth.shape[1] ** 2
        s = (
            float(rows / (rows + few_rows))
            * identified_tags(found)
            * max(0.0, 1 - dependence(data, estimate) / _DEPENDENT)
        )
    one_vote_rules = leave_one_out_agreement(found, data.indicators, data.covered_counts, data.frequency)
    agreement = with_weighted_majority(
        found, one_vote_rules.weight, data.indicators, data.covered_counts, estimate.discount
    )
    dependent = LinearLogits(np.where(found.one_sided[:, None], _HALF, 1) * agreement.weight, agreement.bias)
    independent = LinearLogits(s * estimate.opinion.weight, s * estimate.opinion.bias)
    return Opinion(found, independent, dependent, dependent_weight=1 - s), agreement


def identified_tags(found: Outcomes) -> float:
    """Returns the share of the k tags whose rates and share can be learned from votes alone, 0 to 1.

    Three independent views of a tag are needed (Kruskal 1977; Anandkumar et al. 2014, "Tensor decompositions for
    learning latent variable models", section 3.2): the rules that vote for it. With one rule, many rows of the tag that
    it finds rarely look the same as few rows that it finds often. A tag with two rules counts half. Where there are two
    tags, a rule for one is a view of the other too.
    """
    if found.owners.shape[1] <= 2:
        return 1.0
    views = (found.owners * (found.owners.sum(axis=1) == 1)[:, None] / found.alike[:, None]).sum(axis=0)
    return float(np.clip((views - 1) / 2, 0, 1).mean())


def dependence(data: OutcomeData, estimate: Estimate) -> float:
    """Measures how far the rules are from erring independently given the tag; 0 means independent (see `VotesOnly`)."""
    f, pairs = len(data.outcomes), data.pairs
    if not len(pairs.one):
        return 0.0
    leading = np.zeros(f)
    apart = np.where(estimate.excess > COPY, 0, estimate.excess)
    np.maximum.at(leading, pairs.one, apart)
    np.maximum.at(leading, pairs.other, apart)
    chance = np.sqrt(
        2 * np.log(max(2 * len(pairs.one) / f, 2)) / data.counts.sum()
    )  # the expected maximum of so many correlations
    return float(np.maximum(leading - chance, 0).mean())

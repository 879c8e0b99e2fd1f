"""The part of the `kommuna` model that is fitted on votes alone, without dev rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import sparse

from kommuna.steps.labeling.models.base import (
    BaseLabelModel,
    DevRows,
    Probabilities,
    candidate_tags,
    count_votes,
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

_DEPENDENT = 0.05  # mean excess correlation from which abstentions are ignored
_ROWS_PER_PAIR = 25.0  # rows per pair of tags at which independent rules have half of their weight
_IDENTIFIED = 0.5  # share of identified tags up to which independent rules are ignored
_MISFIT, _MISFIT_SPAN = 0.03, 0.03  # of the confusion of tags; up to the first it is chance, from their sum on ignored
_TIE = 0.25  # votes by which the winner of a tie leads


@dataclass(frozen=True)
class Opinion:
    """Logits of `VotesOnly`: a linear part, and the logarithm of the votes' shares.

    Attributes:
        outcomes: the f outcomes.
        linear: logits that are linear in the outcomes, already weighted.
        counted: weight of the logarithm of each tag's share of the votes.
        tie_breakers: two models that resolve a tie of the count where they agree; None: ties stay ties.
    """

    outcomes: Outcomes
    linear: LinearLogits
    counted: float
    tie_breakers: tuple[LinearLogits, LinearLogits] | None

    def plus(self, added: LinearLogits, times: float) -> Opinion:
        """Returns these logits multiplied by `times`, plus others."""
        return Opinion(self.outcomes, added.plus(self.linear, times), times * self.counted, self.tie_breakers)

    def logits(self, votes: CastVotes) -> Floats:
        """Returns P x k logits, before `limit_to_candidates`.

        Args:
            votes: the votes cast in P patterns.
        """
        indicators = self.outcomes.indicators(votes)
        logits = self.linear.logits(indicators)
        if self.counted:
            logits += self.counted * np.log(self._counts(votes, indicators) + 1 / logits.shape[1])
        return logits

    def _counts(self, votes: CastVotes, indicators: sparse.csr_array) -> Floats:
        """Counts the votes; where a tie is resolved, its winner leads by `_TIE` and the others have less."""
        counts = count_votes(votes, len(self.linear.bias))
        if self.tie_breakers is None:
            return counts
        leads = counts == counts.max(axis=1, keepdims=True)
        tied = np.flatnonzero((leads.sum(axis=1) > 1) & (counts > 0).any(axis=1))
        leads = leads[tied]
        best, other = (
            np.where(leads, reader.logits(indicators[tied]), -np.inf).argmax(axis=1) for reader in self.tie_breakers
        )
        same = np.flatnonzero(best == other)
        lost = _TIE / (leads[same].sum(axis=1) - 1)
        counts[tied[same]] -= leads[same] * lost[:, None]
        counts[tied[same], best[same]] += lost + _TIE
        return counts


class VotesOnly(BaseLabelModel):
    """Counts votes, and departs from the count only as far as the votes justify it.

    Three opinions are averaged, as logits:

    - *The count*: ``log(votes for the tag + 1/k)``, as in the majority vote.
    - *Independent rules* (`NaiveBayes`): uses abstentions and the tags' shares. Where rules err independently, it is
      far better than the majority vote, most of all where tags are rare.
    - *Weighted rules* (`with_weighted_majority`): a rule that votes for several tags is weighted by how often it agrees
      with the others.

    Both models discount near copies. Independent rules have the weight s, with n rows and k tags::

        s = n / (n + 25 k²) · I · max(0, 1 - D / .05)

    I falls from 1 to 0 as the share of tags that can be learned from votes alone (`identified_tags`) falls to one
    half: where most tags have one or two rules, EM invents their shares, and loses .10 of accuracy to the majority vote
    (100 rules, 50 tags). D measures dependence (`dependence`): the mean over outcomes of the largest correlation with
    another rule's outcome beyond what the tags explain, minus what chance gives; near copies are ignored. On thousands
    of votes generated independently, with or without copies, D is below .02; on the training rows of seven text data
    sets it is .027 to .13. It is large too if EM has found something else than the tags.

    Of the rest, weighted rules have the share of the votes that rules for several tags cast, as far as these rules'
    errors fall evenly on all other tags, which their weights assume (`misfit`). Where errors go to one common tag, that
    tag seems frequent, and would win the ties of the others. The count has what remains.

    A tie of the count is resolved only if two readings have the same opinion of it: independent rules, and the rules'
    `leave_one_out_agreement`. Each is wrong about most ties of some votes, and votes alone do not tell which these are.
    Where many rules are worse than chance, both are. With too few identified tags, or rules for several tags only,
    ties stay ties.

    A tag without a vote on a row is never its likeliest, so a row whose votes all agree gets their tag. A further vote
    for a tag never makes it less likely.

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
    """Fits `VotesOnly` without dev rows; returns its opinion, and the logits of weighted rules at full weight."""
    found = data.outcomes
    naive_bayes = NaiveBayes(iterations=15 if found.one_sided.any() else 3, doubt=1.0, doubted_from=COPY)
    estimate = naive_bayes.fit(data.without(np.ones(len(data.truth), dtype=bool)))
    rows = data.counts.sum()
    s, identified = 0.0, identified_tags(found)
    if found.one_sided.any():
        few_rows = _ROWS_PER_PAIR * data.truth.shape[1] ** 2
        s = (
            float(rows / (rows + few_rows))
            * max(0.0, identified - _IDENTIFIED)
            / (1 - _IDENTIFIED)
            * max(0.0, 1 - dependence(data, estimate) / _DEPENDENT)
        )
    one_vote_rules = leave_one_out_agreement(found, data.indicators, data.covered_counts, data.frequency)
    weighted = with_weighted_majority(
        found, one_vote_rules.weight, data.indicators, data.covered_counts, estimate.discount
    )
    fits = 1 - max(0.0, misfit(data, weighted) - _MISFIT) / _MISFIT_SPAN
    several = found.rows[~found.one_sided].sum() / max(found.rows.sum(), 1.0)
    decides_ties = bool(found.one_sided.any()) and identified > _IDENTIFIED
    w = (1 - s) * max(0.0, fits) * float(several)
    none = LinearLogits(np.zeros_like(weighted.weight), np.zeros_like(weighted.bias))
    opinion = Opinion(
        found,
        none.plus(estimate.opinion, s).plus(weighted, w),
        max(0.0, 1 - s - w),
        (estimate.opinion, one_vote_rules) if decides_ties else None,
    )
    return opinion, weighted


def misfit(data: OutcomeData, weighted: LinearLogits) -> float:
    """Measures how unevenly the errors of rules for several tags fall on the other tags, 0 to 1.

    It is the total variation between the observed pairs of a row's tag and a rule's vote, and those that one accuracy
    for all tags and errors for any other tag would give. Chance adds to it where there are few votes for many tags: a
    rule's weight is then uncertain too.

    Args:
        data: the outcomes, and the patterns that they happen on.
        weighted: logits that estimate the tag of each pattern.
    """
    found = data.outcomes
    one_tag = ~found.one_sided & (found.owners.sum(axis=1) == 1)
    k = found.owners.shape[1]
    if not one_tag.any() or k < 2:
        return 0.0
    posterior = softmax(weighted.logits(data.indicators)) * data.covered_counts[:, None]
    by_outcome = (data.indicators.T @ posterior)[one_tag]
    pairs = by_outcome.T @ found.owners[one_tag]
    accuracy = np.trace(pairs) / pairs.sum()
    expected = pairs.sum(axis=1, keepdims=True) * np.where(np.eye(k) > 0, accuracy, (1 - accuracy) / (k - 1))
    return float(np.abs(pairs - expected).sum() / pairs.sum() / 2)


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
    """Measures how far the rules are from erring independently given the tag; 0 means independent (see `VotesOnly`).

    Args:
        data: the outcomes, and their pairs.
        estimate: the fit, with the excess correlation of each pair.
    """
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

"""Naive Bayes on vote outcomes, learned by EM from unlabeled rows and dev rows: the core of several label models."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from kommuna.steps.labeling.models.base import (
    DevRows,
    candidate_tags,
    count_votes,
    limit_to_candidates,
    normalize_rows,
    softmax,
)
from kommuna.steps.labeling.models.lift import Floats, coverage_prior, limit_evidence_against_own_tags
from kommuna.steps.labeling.models.outcomes import Outcomes, outcomes
from kommuna.steps.labeling.votes.patterns import CastVotes, VotePatterns, sample

_EPSILON = 1e-6
_FEWEST_TOGETHER = 3  # patterns; fewer say nothing about correlation
_BLOCK = 100_000  # pairs
_DENSE_BLOCK = 4_000_000  # pairs
_DENSE, _MOST_DENSE = 0.1, 20_000_000  # share of the P x f cells that are not zero; cells
_SEVERAL_VOTES = 1 / 3  # of the prior's weight: a rule that votes for several tags meets views of each
_NEARLY_ALL = 0.9  # of the rows
_TOLERANCE = 1e-4  # EM stops when no posterior changes by more


@dataclass(frozen=True)
class LinearLogits:
    """Logits of the tags that are linear in the outcomes: ``logits = indicators @ weight + bias`` (f x k, and k)."""

    weight: Floats
    bias: Floats

    def logits(self, indicators: sparse.csr_array) -> Floats:
        """Returns P x k logits.

        Args:
            indicators: P x f, 1 where the outcome happened.
        """
        logits = np.asarray(indicators @ self.weight)
        logits += self.bias
        return logits

    def plus(self, other: LinearLogits, times: float) -> LinearLogits:
        """Adds the other logits, multiplied by `times`."""
        return LinearLogits(self.weight + times * other.weight, self.bias + times * other.bias)


@dataclass(frozen=True)
class Pairs:
    """q pairs of outcomes of different rules.

    Attributes:
        one: q, the first outcome.
        other: q, the second outcome.
        share: q, the share of rows on which both happen.
        spread: q, the product of their standard deviations, ``sqrt(P(f)(1 - P(f)) P(g)(1 - P(g)))``.
    """

    one: NDArray[np.intp]
    other: NDArray[np.intp]
    share: Floats
    spread: Floats

    def excess(self, rate_by_tag: Floats, prior: Floats) -> Floats:
        """Returns q correlations beyond what independence given the tag explains, -1 to 1.

        ::

            r[f, g] = (P(f, g) - Σ_y prior[y] P(f | y) P(g | y)) / spread

        Args:
            rate_by_tag: f x k, the share of a tag's rows on which the outcome happens.
            prior: k, the tags' shares.
        """
        expected = np.empty(len(self.one))
        weighted = rate_by_tag * prior
        for start in range(0, len(expected), _BLOCK):
            part = slice(start, start + _BLOCK)
            np.einsum("qy,qy->q", weighted[self.one[part]], rate_by_tag[self.other[part]], out=expected[part])
        return np.asarray((self.share - expected) / self.spread)

    def sums(self, values: Floats, f: int) -> Floats:
        """Sums q values over the pairs of each of f outcomes.

        Args:
            values: q, a value per pair.
            f: the number of outcomes.
        """
        ends = np.concatenate([self.one, self.other])
        return np.bincount(ends, weights=np.concatenate([values, values]), minlength=f).astype(np.float64)


def pairs(found: Outcomes, indicators: sparse.csr_array, counts: Floats, rows: float) -> Pairs:
    """Finds the pairs that happen together on enough of the P patterns to measure their correlation.

    Args:
        found: the f outcomes.
        indicators: P x f, on the distinct patterns.
        counts: P, rows with the pattern.
        rows: the number of rows.
    """
    one, other, share = together(indicators, counts)
    apart = (found.rule[one] != found.rule[other]) & (found.event[one] != found.event[other])
    one, other, share = one[apart], other[apart], share[apart] / rows
    frequency = np.asarray(indicators.T @ counts) / rows
    deviation = np.sqrt(np.maximum(frequency * (1 - frequency), _EPSILON))
    return Pairs(one, other, share, deviation[one] * deviation[other])


def together(indicators: sparse.csr_array, counts: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """Finds the pairs of outcomes that happen together on `_FEWEST_TOGETHER` or more of the P patterns.

    Args:
        indicators: P x f, on the distinct patterns.
        counts: P, rows with the pattern, at least one.

    Returns:
        three arrays of q: the first outcome, the second (a later one), and the rows on which both happen.
    """
    cells = indicators.shape[0] * indicators.shape[1]
    if indicators.nnz > _DENSE * cells and cells <= _MOST_DENSE:
        return _together_dense(indicators.toarray(), counts)
    across = sparse.csr_array(indicators.T)
    often = sparse.csr_array(across @ indicators)
    both = sparse.csr_array(across.multiply(counts[None]) @ indicators)
    for product in (often, both):  # both have the same non-zero cells: sorted, in the same order
        product.sort_indices()
    one = np.repeat(np.arange(len(often.indptr) - 1), np.diff(often.indptr))
    kept = (often.data >= _FEWEST_TOGETHER) & (often.indices > one)
    return one[kept], often.indices[kept].astype(np.intp), both.data[kept]


def _together_dense(indicators: Floats, counts: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """`together` by dense matrix products: some ten times as fast where half of the pairs occur."""
    f = indicators.shape[1]
    block = max(_DENSE_BLOCK // max(f, 1), 1)
    ones, others, rows = [], [], []
    for start in range(0, f, block):
        own = indicators[:, start : start + block].T
        one, other = np.nonzero(np.triu(own @ indicators >= _FEWEST_TOGETHER, k=start + 1))
        ones.append(one + start)
        others.append(other)
        rows.append((own * counts @ indicators)[one, other])
    return np.concatenate(ones), np.concatenate(others), np.concatenate(rows)


@dataclass(frozen=True)
class OutcomeData:
    """The votes and dev rows that a naive Bayes model is fitted on.

    Attributes:
        outcomes: the f outcomes.
        indicators: P x f, 1 where the outcome happens in the pattern.
        vote_counts: P x k, votes for each tag in the pattern.
        candidates: P x k, see `candidate_tags`; dev rows are ignored.
        counts: P, rows with the pattern.
        frequency: f, the share of all rows, with votes or without, on which the outcome happened.
        pairs: how often outcomes of different rules happen together.
        dev_indicators: d x f, 1 where the outcome happened on the dev row.
        truth: d x k, 1 for the row's tag.
        enough_dev: whether there are as many dev rows as tags; also for parts of the dev rows, so that a model that is
            evaluated without some of them is of the same kind as the one fitted on all.
    """

    outcomes: Outcomes
    indicators: sparse.csr_array
    vote_counts: Floats
    candidates: NDArray[np.bool_]
    counts: Floats
    frequency: Floats
    pairs: Pairs
    dev_indicators: sparse.csr_array
    truth: Floats
    enough_dev: bool

    @classmethod
    def of(cls, votes: VotePatterns, dev: DevRows, *, sample_seed: int | None = None) -> OutcomeData:
        """Collects the data from all rows' votes and the dev rows.

        Args:
            votes: the vote patterns of all rows.
            dev: the dev rows.
            sample_seed: seed of the sample that replaces very many patterns; None uses all patterns.
        """
        k = len(votes.tags)
        learned_from = votes if sample_seed is None else sample(votes, seed=sample_seed)
        found = outcomes(votes.votes, k, dev.votes, votes.counts)
        cast, counts = CastVotes.of(learned_from.votes), learned_from.counts.astype(np.float64)
        indicators = found.indicators(cast)
        return cls(
            found,
            indicators,
            _vote_counts(found, indicators, cast, k),
            candidate_tags(cast, np.zeros(k, dtype=bool), found.voted_tags),
            counts,
            found.rows / max(int(votes.counts.sum()) + len(dev), 1),
            pairs(found, indicators, counts, max(counts.sum(), 1.0)),
            found.indicators(CastVotes.of(dev.votes)),
            np.eye(k)[dev.truth],
            len(dev) >= k,
        )

    @property
    def covered_counts(self) -> Floats:
        """P, the number of rows with the pattern; 0 for the pattern without a vote."""
        return np.asarray(self.counts * (np.diff(self.indicators.indptr) > 0))

    def without(self, excluded: NDArray[np.bool_]) -> OutcomeData:
        """Returns the data without some dev rows.

        Args:
            excluded: d, the dev rows to leave out.
        """
        kept = np.flatnonzero(~excluded)
        return replace(
            self,
            dev_indicators=self.dev_indicators[kept],
            truth=self.truth[kept],
            enough_dev=self.enough_dev and len(kept) > 0,
        )


@dataclass(frozen=True)
class Estimate:
    """A fitted `NaiveBayes`.

    Attributes:
        theta: f x k, ``P(outcome f | tag y)``.
        prior: k, the tags' shares.
        discount: f, the weight of each outcome, 0 to 1.
        excess: q, the pairs' correlations beyond what the tags explain (`Pairs.excess`).
        opinion: the logits of a row's tags.
    """

    theta: Floats
    prior: Floats
    discount: Floats
    excess: Floats
    opinion: LinearLogits


@dataclass(frozen=True)
class NaiveBayes:
    """Naive Bayes: rules err independently given the row's tag; fitted by EM (Dawid and Skene 1979).

    ::

        log P(y | votes) = log pi[y] + Σ_f d[f] log theta[f, y]         where the outcome happened
                                     + Σ_f d[f] log(1 - theta[f, y])   where a one-sided one did not

    - The prior of theta follows from the rule's coverage and its tag's base rate (`coverage_prior`). A vote is never
      evidence against its own tag, unless dev rows show its rule to be worse than chance.
    - Dev rows count with their true tag, and all unlabeled rows together have the weight of `share` of them (Nigam et
      al. 2000, "Text classification from labeled and unlabeled documents using EM", section 5.3.1). With fewer dev rows
      than tags every row has the weight 1, and the tags' shares are learned from the unlabeled rows too.
    - Outcomes that are correlated beyond what the tags explain are discounted::

        d[f] = 1 / alike[f] / (1 + doubt · Σ_g r[f, g])      over the g with r[f, g] > doubted_from

      If g is a copy of f, both together weigh little more than one (the effective sample size of correlated
      votes, Kish 1965, "Survey sampling"; judging rules' dependence by this excess follows Varma et al.
      2019, "Learning dependency structures for weak supervision models").

    Attributes:
        iterations: EM steps, at most. Keep it small with dev rows: EM run to convergence drifts away from the tags.
        share: weight of all unlabeled rows together, as a share of the dev rows.
        prior_rows: weight of the prior of theta, in rows of a tag.
        prior_share: its further weight where the tags' shares are learned from unlabeled rows, as a share of a tag's
            rows.
        doubt: how much correlated outcomes are discounted.
        doubted_from: the excess from which they are; .5 is that of near copies.
    """

    iterations: int = 3
    share: float = 0.25
    prior_rows: float = 1.0
    prior_share: float = 0.3
    doubt: float = 0.0
    doubted_from: float = 0.0

    def fit(self, data: OutcomeData) -> Estimate:
        """Fits the model by EM."""
        found, k = data.outcomes, data.truth.shape[1]
        tags, dev_counts = data.truth.sum(axis=0), data.dev_indicators.T @ data.truth
        known = tags > 0
        enough_dev = data.enough_dev
        weight = data.covered_counts if enough_dev or not found.one_sided.any() else data.counts
        if enough_dev:
            weight = weight * min(1.0, self.share * len(data.truth) / max(weight.sum(), 1.0))
        # With enough dev rows the first step learns from them alone: no posterior is needed before.
        posterior = None if enough_dev else normalize_rows(data.vote_counts)
        counted_tags = tags if posterior is None else posterior.T @ data.covered_counts
        prior = (counted_tags + 1) / (counted_tags.sum() + k)
        voting = found.by_rule(data.frequency[:, None])[:, 0]
        strength_share = self.prior_share * np.where(found.one_sided, 1, _SEVERAL_VOTES)
        excess, discount = np.zeros(len(data.pairs.one)), 1 / found.alike
        candidates = data.candidates | known
        estimate: Estimate | None = None
        last = self.iterations + enough_dev - 1
        for step in range(last + 1):
            rows, cast = tags, dev_counts
            if posterior is not None:
                weighted_posterior = posterior * weight[:, None]
                rows, cast = weighted_posterior.sum(axis=0) + tags, data.indicators.T @ weighted_posterior + dev_counts
            if estimate is None or not enough_dev:
                base = coverage_prior(found, data.frequency, dev_counts, prior)
                strength: Floats | float = self.prior_rows
                if not enough_dev:
                    strength = self.prior_rows + weight.sum() * strength_share[:, None] * prior
                base *= strength
            theta = _rates(found, cast, rows, base, strength)
            theta = limit_evidence_against_own_tags(found, theta, dev_counts, prior)
            if not enough_dev:
                prior = (rows + 1) / (rows.sum() + k)
            if self.doubt and (estimate is None or not enough_dev):  # with enough dev rows later steps change little
                rate_by_tag = theta * np.where(found.one_sided, 1, voting)[:, None]
                excess = data.pairs.excess(rate_by_tag, prior)
                doubted = np.where(excess > self.doubted_from, np.minimum(excess, 1), 0)
                discount = 1 / found.alike / (1 + self.doubt * data.pairs.sums(doubted, len(found)))
            opinion = _opinion(found, theta, discount, prior)
            estimate = Estimate(theta, prior, discount, excess, opinion)
            if step == last:
                break
            before, posterior = posterior, limit_to_candidates(softmax(opinion.logits(data.indicators)), candidates)
            if step and before is not None and np.abs(posterior - before).max(initial=0) < _TOLERANCE:
                break
        assert estimate is not None
        return estimate


def _rates(found: Outcomes, cast: Floats, rows: Floats, prior_counts: Floats, strength: Floats | float) -> Floats:
    """Returns ``P(outcome f | tag y)``, f x k: the share of the tag's rows, or of its rule's votes if it casts several.

    Args:
        found: f outcomes of k tags.
        cast: f x k, the rows of each tag on which the outcome happened.
        rows: k, the rows of each tag.
        prior_counts: f x k, the outcome's prior mean times `strength`.
        strength: weight of the prior in rows; f x k, or one number.
    """
    out_of = found.by_rule(cast)
    out_of[found.one_sided] = rows
    out_of += strength
    theta = cast + prior_counts
    theta /= out_of
    return np.clip(theta, _EPSILON, 1 - _EPSILON, out=theta)


def _vote_counts(found: Outcomes, indicators: sparse.csr_array, votes: CastVotes, k: int) -> Floats:
    """Counts votes for each tag, P x k.

    Rules that vote on nearly every row say little about one; their votes count only where no other rule votes.
    """
    near_constant = found.one_sided & (found.rows >= _NEARLY_ALL * found.all_rows)
    vote_counts = count_votes(votes, k)
    if near_constant.any():
        rarer = np.maximum(vote_counts - indicators @ (found.owners * near_constant[:, None]), 0)
        vote_counts = np.where(rarer.any(axis=1, keepdims=True), rarer, vote_counts)
    return np.asarray(vote_counts)


def _opinion(found: Outcomes, theta: Floats, discount: Floats, prior: Floats) -> LinearLogits:
    weight = np.log(theta) * discount[:, None]
    one_sided = np.flatnonzero(found.one_sided)
    silence = np.log1p(-theta[one_sided]) * discount[one_sided, None]
    weight[one_sided] -= silence
    return LinearLogits(weight, silence.sum(axis=0) + np.log(prior))

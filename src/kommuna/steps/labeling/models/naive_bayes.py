"""Naive Bayes on vote outcomes, learned by EM from unlabeled rows and dev rows: the core of several label models."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from kommuna.steps.labeling.models.base import DevRows, may_win, only_voted, shares, softmax, tally
from kommuna.steps.labeling.models.lift import Floats, coverage_bound, never_against_its_own
from kommuna.steps.labeling.models.outcomes import Outcomes, outcomes
from kommuna.steps.labeling.votes.patterns import CastVotes, VotePatterns, sample

_EDGE = 1e-6
_FEWEST_TOGETHER = 3  # patterns; fewer say nothing of correlation
_AT_ONCE = 100_000  # pairs
_AT_ONCE_DENSE = 4_000_000  # pairs
_DENSE, _MOST_DENSE = 0.1, 20_000_000  # share of the P x f cells that are not zero; cells
_SEVERAL_VOTES = 1 / 3  # of the prior's weight: a rule that votes for several tags meets views of each
_NEARLY_ALL = 0.9  # of the rows
_STILL = 1e-4  # the largest change of a belief at which EM is done


@dataclass(frozen=True)
class Linear:
    """An opinion that is linear in the outcomes: logits = happened @ weight + bias (f x k, and k)."""

    weight: Floats
    bias: Floats

    def logits(self, happened: sparse.csr_array) -> Floats:
        logits = np.asarray(happened @ self.weight)
        logits += self.bias
        return logits

    def plus(self, other: Linear, times: float) -> Linear:
        return Linear(self.weight + times * other.weight, self.bias + times * other.bias)


@dataclass(frozen=True)
class Pairs:
    """q pairs of outcomes of different rules: which two, on what share of rows both happen, and the spread of both,
    ``sqrt(P(f)(1 - P(f)) P(g)(1 - P(g)))``."""

    one: NDArray[np.intp]
    other: NDArray[np.intp]
    share: Floats
    spread: Floats

    def excess(self, happens: Floats, prior: Floats) -> Floats:
        """q correlations beyond what independence given the tag explains, -1 to 1::

            r[f, g] = (P(f, g) - Σ_y prior[y] P(f | y) P(g | y)) / spread

        Args:
            happens: f x k, on what share of a tag's rows each outcome happens.
            prior: k, the tags' shares.
        """
        expected = np.empty(len(self.one))
        weighted = happens * prior
        for start in range(0, len(expected), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            np.einsum("qy,qy->q", weighted[self.one[part]], happens[self.other[part]], out=expected[part])
        return np.asarray((self.share - expected) / self.spread)

    def sums(self, values: Floats, f: int) -> Floats:
        """f sums of q values over the pairs of each outcome."""
        ends = np.concatenate([self.one, self.other])
        return np.bincount(ends, weights=np.concatenate([values, values]), minlength=f).astype(np.float64)


def pairs(found: Outcomes, happened: sparse.csr_array, counts: Floats, rows: float) -> Pairs:
    """The pairs that happen together on more than a few of the P patterns; of the rest nothing can be said."""
    one, other, share = together(happened, counts)
    apart = (found.rule[one] != found.rule[other]) & (found.event[one] != found.event[other])
    one, other, share = one[apart], other[apart], share[apart] / rows
    seen = np.asarray(happened.T @ counts) / rows
    deviation = np.sqrt(np.maximum(seen * (1 - seen), _EDGE))
    return Pairs(one, other, share, deviation[one] * deviation[other])


def together(happened: sparse.csr_array, counts: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """The pairs of outcomes that happen together on `_FEWEST_TOGETHER` of the P patterns or more.

    Args:
        happened: P x f, on the distinct patterns.
        counts: P, rows with the pattern, at least one.
    Returns:
        q, q and q: the first outcome, the second, a later one, and the rows on which both happen.
    """
    cells = happened.shape[0] * happened.shape[1]
    if happened.nnz > _DENSE * cells and cells <= _MOST_DENSE:
        return _together_dense(happened.toarray(), counts)
    across = sparse.csr_array(happened.T)
    often = sparse.csr_array(across @ happened)
    both = sparse.csr_array(across.multiply(counts[None]) @ happened)
    for product in (often, both):  # of the same cells: then in the same order
        product.sort_indices()
    one = np.repeat(np.arange(len(often.indptr) - 1), np.diff(often.indptr))
    kept = (often.data >= _FEWEST_TOGETHER) & (often.indices > one)
    return one[kept], often.indices[kept].astype(np.intp), both.data[kept]


def _together_dense(happened: Floats, counts: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """By products of dense matrices: some ten times as fast as sparse ones where half of the pairs meet."""
    f = happened.shape[1]
    block = max(_AT_ONCE_DENSE // max(f, 1), 1)
    ones, others, rows = [], [], []
    for start in range(0, f, block):
        own = happened[:, start : start + block].T
        one, other = np.nonzero(np.triu(own @ happened >= _FEWEST_TOGETHER, k=start + 1))
        ones.append(one + start)
        others.append(other)
        rows.append((own * counts @ happened)[one, other])
    return np.concatenate(ones), np.concatenate(others), np.concatenate(rows)


@dataclass(frozen=True)
class Evidence:
    """What is learned from.

    Attributes:
        outcomes: the f outcomes.
        happened: P x f, on the distinct patterns.
        counted: P x k, votes for each tag in the pattern.
        may: P x k, tags with a vote (`may_win`), dev rows aside.
        counts: P, rows with the pattern.
        frequency: f, the share of all rows, with votes or without, on which the outcome happened.
        pairs: how often outcomes of different rules happen together.
        dev: d x f, on the dev rows.
        truth: d x k, 1 for the row's tag.
    """

    outcomes: Outcomes
    happened: sparse.csr_array
    counted: Floats
    may: NDArray[np.bool_]
    counts: Floats
    frequency: Floats
    pairs: Pairs
    dev: sparse.csr_array
    truth: Floats

    @classmethod
    def of(cls, votes: VotePatterns, dev: DevRows, *, sampled_by: int | None = None) -> Evidence:
        """From all rows' votes and the dev rows.

        Args:
            sampled_by: seed of the sample of rows that is learned from where there are many; None takes all.
        """
        k = len(votes.tags)
        learned_from = votes if sampled_by is None else sample(votes, seed=sampled_by)
        found = outcomes(votes.votes, k, dev.votes, votes.counts)
        cast, counts = CastVotes.of(learned_from.votes), learned_from.counts.astype(np.float64)
        happened = found.happened(cast)
        return cls(
            found,
            happened,
            _counted(found, happened, cast, k),
            may_win(cast, np.zeros(k, dtype=bool), found.ruled),
            counts,
            found.rows / max(int(votes.counts.sum()) + len(dev), 1),
            pairs(found, happened, counts, max(counts.sum(), 1.0)),
            found.happened(CastVotes.of(dev.votes)),
            np.eye(k)[dev.truth],
        )

    @property
    def covered(self) -> Floats:
        """P, rows with the pattern; 0 where it has no vote."""
        return np.asarray(self.counts * (np.diff(self.happened.indptr) > 0))

    def without(self, held: NDArray[np.bool_]) -> Evidence:
        """The same without some dev rows."""
        kept = np.flatnonzero(~held)
        return replace(self, dev=self.dev[kept], truth=self.truth[kept])


@dataclass(frozen=True)
class Estimate:
    """A fitted `NaiveBayes`.

    Attributes:
        theta: f x k, ``P(outcome f | tag y)``.
        prior: k, the tags' shares.
        discount: f, what each outcome's evidence counts for, 0 to 1.
        excess: q, the pairs' correlations beyond what the tags explain (`Pairs.excess`).
        opinion: what follows of a row.
    """

    theta: Floats
    prior: Floats
    discount: Floats
    excess: Floats
    opinion: Linear


@dataclass(frozen=True)
class NaiveBayes:
    """Rules as witnesses that err independently given the row's tag, learned by EM (Dawid and Skene 1979).

    ::

        log P(y | votes) = log pi[y] + Σ_f d[f] log theta[f, y]         where the outcome happened
                                     + Σ_f d[f] log(1 - theta[f, y])   where a one-sided one did not

    - theta has a prior that is bound to the rule's coverage and to its tag's base rate (`coverage_bound`). No vote is
      evidence against its own tag, unless dev rows show its rule to be worse than chance.
    - Dev rows count with their true tag, and all unlabeled rows together weigh `share` of them (Nigam et al. 2000,
      "Text classification from labeled and unlabeled documents using EM", section 5.3.1). Fewer dev rows than tags
      count as they are, beside the unlabeled rows, from which the tags' shares are then learned.
    - Outcomes that are correlated beyond what the tags explain are discounted::

        d[f] = 1 / alike[f] / (1 + doubt · Σ_g r[f, g])      over the g with r[f, g] > doubted_from

      Were g a copy of f, both together would weigh little more than one (the effective sample size of correlated
      votes, Kish 1965, "Survey sampling"; that rules' dependence is to be judged by such excess is of Varma et al.
      2019, "Learning dependency structures for weak supervision models").

    Attributes:
        iterations: EM steps, at most. With dev rows few: there EM run to the end drifts from the tags.
        share: weight of all unlabeled rows, in dev rows.
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

    def fit(self, seen: Evidence) -> Estimate:
        found, k = seen.outcomes, seen.truth.shape[1]
        tags, dev_counts = seen.truth.sum(axis=0), seen.dev.T @ seen.truth
        known = tags > 0
        taught = len(seen.truth) >= k
        weight = seen.covered if taught or not found.one_sided.any() else seen.counts
        if taught:
            weight = weight * min(1.0, self.share * len(seen.truth) / max(weight.sum(), 1.0))
        belief = shares(seen.counted)
        counted_tags = tags if taught else belief.T @ seen.covered
        prior = (counted_tags + 1) / (counted_tags.sum() + k)
        voting = found.by_rule(seen.frequency[:, None])[:, 0]
        held = self.prior_share * np.where(found.one_sided, 1, _SEVERAL_VOTES)
        excess, discount = np.zeros(len(seen.pairs.one)), 1 / found.alike
        may = seen.may | known
        estimate: Estimate | None = None
        last = self.iterations + taught - 1
        for step in range(last + 1):
            rows, cast = tags, dev_counts
            if step or not taught:  # the first step with dev rows hears them alone
                believed = belief * weight[:, None]
                rows, cast = believed.sum(axis=0) + tags, seen.happened.T @ believed + dev_counts
            if estimate is None or not taught:
                base = coverage_bound(found, seen.frequency, dev_counts, prior)
            strength = self.prior_rows if taught else self.prior_rows + weight.sum() * held[:, None] * prior
            out_of = np.where(found.one_sided[:, None], rows, found.by_rule(cast))
            theta = np.clip((cast + strength * base) / (out_of + strength), _EDGE, 1 - _EDGE)
            theta = never_against_its_own(found, theta, dev_counts, prior)
            if not taught:
                prior = (rows + 1) / (rows.sum() + k)
            if self.doubt and (estimate is None or not taught):  # many dev rows leave little to be found out later
                happens = theta * np.where(found.one_sided, 1, voting)[:, None]
                excess = seen.pairs.excess(happens, prior)
                doubted = np.where(excess > self.doubted_from, np.minimum(excess, 1), 0)
                discount = 1 / found.alike / (1 + self.doubt * seen.pairs.sums(doubted, len(found)))
            opinion = _opinion(found, theta, discount, prior)
            estimate = Estimate(theta, prior, discount, excess, opinion)
            if step == last:
                break
            before, belief = belief, only_voted(softmax(opinion.logits(seen.happened)), may)
            if step and np.abs(belief - before).max(initial=0) < _STILL:
                break
        assert estimate is not None
        return estimate


def _counted(found: Outcomes, happened: sparse.csr_array, votes: CastVotes, k: int) -> Floats:
    """P x k votes for each tag. Those of rules that vote on nearly every row, which say little of one, count where they
    stand alone.
    """
    usual = found.one_sided & (found.rows >= _NEARLY_ALL * found.all_rows)
    counted = tally(votes, k)
    if usual.any():
        rarer = np.maximum(counted - happened @ (found.owners * usual[:, None]), 0)
        counted = np.where(rarer.any(axis=1, keepdims=True), rarer, counted)
    return np.asarray(counted)


def _opinion(found: Outcomes, theta: Floats, discount: Floats, prior: Floats) -> Linear:
    weight = np.log(theta) * discount[:, None]
    one_sided = np.flatnonzero(found.one_sided)
    silence = np.log1p(-theta[one_sided]) * discount[one_sided, None]
    weight[one_sided] -= silence
    return Linear(weight, silence.sum(axis=0) + np.log(prior))

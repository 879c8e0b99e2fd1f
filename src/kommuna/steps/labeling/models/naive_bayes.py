"""Semi-supervised naive Bayes on vote outcomes: one of the opinions that the `kommuna` model pools."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from kommuna.steps.labeling.models.dawid_skene import coverage_bound
from kommuna.steps.labeling.models.outcomes import Outcomes

Floats = NDArray[np.float64]

_EDGE = 1e-6
_FEWEST_TOGETHER = 3  # patterns; fewer say nothing of correlation
_AT_ONCE = 100_000  # pairs
_ITERATIONS = 3  # few: EM run to the end drifts from the tags (see `DawidSkene`)


@dataclass(frozen=True)
class Linear:
    """An opinion that is linear in the outcomes: logits = happened @ weight + bias (f x k, and k)."""

    weight: Floats
    bias: Floats

    def logits(self, happened: sparse.csr_array) -> Floats:
        return np.asarray(happened @ self.weight + self.bias)


@dataclass(frozen=True)
class Pairs:
    """q pairs of outcomes of different rules: which two, on what share of rows both happen, and the spread of both,
    ``sqrt(P(f)(1 - P(f)) P(g)(1 - P(g)))``."""

    one: NDArray[np.intp]
    other: NDArray[np.intp]
    share: Floats
    spread: Floats


def pairs(found: Outcomes, happened: sparse.csr_array, counts: Floats, rows: float) -> Pairs:
    """The pairs that happen together on more than a few of the P patterns; of the rest nothing can be said."""
    lines = sparse.csr_array(happened.T)
    often = sparse.triu(sparse.csr_array(lines @ happened), k=1, format="coo")
    kept = (often.data >= _FEWEST_TOGETHER) & (found.rule[often.row] != found.rule[often.col])
    one, other = often.row[kept].astype(np.intp), often.col[kept].astype(np.intp)
    both = sparse.csr_array(lines @ sparse.diags_array(counts) @ happened)
    share = np.asarray(both[one, other]).reshape(-1) / rows if len(one) else np.zeros(0)
    seen = np.asarray(happened.T @ counts) / rows
    deviation = np.sqrt(np.maximum(seen * (1 - seen), _EDGE))
    return Pairs(one, other, share, deviation[one] * deviation[other])


@dataclass(frozen=True)
class Evidence:
    """What is learned from.

    Attributes:
        outcomes: the f outcomes.
        happened: P x f, on the distinct patterns.
        counts: P, rows with the pattern; 0 where it has no vote.
        frequency: f, the share of all rows, with votes or without, on which the outcome happened.
        pairs: how often outcomes of different rules happen together.
        dev: d x f, on the dev rows.
        truth: d x k, 1 for the row's tag.
    """

    outcomes: Outcomes
    happened: sparse.csr_array
    counts: Floats
    frequency: Floats
    pairs: Pairs
    dev: sparse.csr_array
    truth: Floats

    def without(self, held: NDArray[np.bool_]) -> Evidence:
        """The same without some dev rows."""
        kept = np.flatnonzero(~held)
        return replace(self, dev=self.dev[kept], truth=self.truth[kept])

    def log_prior(self) -> Floats:
        """The tags' share among the dev rows, one row a tag added."""
        tags = self.truth.sum(axis=0)
        return np.asarray(np.log((tags + 1) / (tags.sum() + len(tags))))


@dataclass(frozen=True)
class NaiveBayes:
    """Dawid and Skene's model with dev rows as evidence, and a doubt about it.

    As in `DawidSkene`, theta[f, y] has a prior bound to the rule's coverage and accuracy, dev rows count with their
    true tag, and all unlabeled rows together weigh `share` of them (Nigam et al. 2000). Its doubt::

        log P(y | votes) = log pi[y] + Σ_f d[f] log theta[f, y]         where the outcome happened
                                     + Σ_f d[f] log(1 - theta[f, y])   where a one-sided one did not

        d[f] = 1 / (1 + doubt · Σ_g max(r[f, g], 0))
        r[f, g] = (P(f, g) - Σ_y pi[y] theta[f, y] theta[g, y]) / sqrt(P(f)(1 - P(f)) P(g)(1 - P(g)))

    r is the correlation of two outcomes beyond what independence given the tag explains; were g a copy of f, both
    together would weigh little more than one (the effective sample size of correlated votes, Kish 1965, "Survey
    sampling"; that rules' dependence is to be judged by such excess is of Varma et al. 2019, "Learning dependency
    structures for weak supervision models").

    Attributes:
        share: weight of all unlabeled rows, in dev rows.
        prior_rows: weight of the coverage-bound prior, in rows of a tag.
        doubt: how much correlated outcomes are discounted.
    """

    share: float = 0.25
    prior_rows: float = 1.0
    doubt: float = 0.0

    def fit(self, seen: Evidence) -> Linear:
        log_prior = seen.log_prior()
        prior = np.exp(log_prior)
        tags, dev_counts = seen.truth.sum(axis=0), seen.dev.T @ seen.truth
        base = coverage_bound(seen.outcomes, seen.frequency, dev_counts, prior)
        theta = self._theta(seen.outcomes, dev_counts, tags, base)
        discount = self._discount(seen, theta, prior)
        opinion = self._linear(seen.outcomes, theta, discount, log_prior)
        weight = seen.counts * min(1.0, self.share * len(seen.truth) / max(seen.counts.sum(), 1.0))
        for _ in range(_ITERATIONS):
            belief = softmax(opinion.logits(seen.happened)) * weight[:, None]
            theta = self._theta(seen.outcomes, seen.happened.T @ belief + dev_counts, belief.sum(axis=0) + tags, base)
            opinion = self._linear(seen.outcomes, theta, discount, log_prior)
        return opinion

    def _theta(self, found: Outcomes, happened: Floats, rows: Floats, base: Floats) -> Floats:
        """Expected frequencies, f x k."""
        out_of = np.where(found.one_sided[:, None], rows, found.by_rule(happened))
        return np.clip((happened + self.prior_rows * base) / (out_of + self.prior_rows), _EDGE, 1 - _EDGE)

    def _linear(self, found: Outcomes, theta: Floats, discount: Floats, log_prior: Floats) -> Linear:
        weight = np.log(theta) * discount[:, None]
        one_sided = np.flatnonzero(found.one_sided)
        silence = np.log1p(-theta[one_sided]) * discount[one_sided, None]
        weight[one_sided] -= silence
        return Linear(weight, silence.sum(axis=0) + log_prior)

    def _discount(self, seen: Evidence, theta: Floats, prior: Floats) -> Floats:
        correlated = np.zeros(len(seen.outcomes))
        if self.doubt:
            both, weighted = seen.pairs, theta * prior
            for start in range(0, len(both.one), _AT_ONCE):
                part = slice(start, start + _AT_ONCE)
                one, other = both.one[part], both.other[part]
                expected = np.einsum("qy,qy->q", weighted[one], theta[other])
                excess = np.clip((both.share[part] - expected) / both.spread[part], 0, 1)
                correlated += np.bincount(one, weights=excess, minlength=len(correlated))
                correlated += np.bincount(other, weights=excess, minlength=len(correlated))
        return np.asarray(1 / (1 + self.doubt * correlated))


def softmax(logits: Floats) -> Floats:
    """Lines of probabilities."""
    beliefs = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(beliefs / beliefs.sum(axis=1, keepdims=True))

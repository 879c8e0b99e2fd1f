"""The `kommuna` model: several opinions on the votes, each with other assumptions, pooled as dev rows deserve."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.labeling.models.base import Beliefs, DevRows, LabelModel, tally
from kommuna.steps.labeling.models.naive_bayes import Evidence, Floats, Linear, NaiveBayes, pairs, softmax
from kommuna.steps.labeling.models.opinion_pool import pool_weights, regression
from kommuna.steps.labeling.models.outcomes import outcomes
from kommuna.steps.labeling.models.unlabeled import Unlabeled
from kommuna.steps.labeling.patterns import Codes, VotePatterns, sample

_FOLDS = 5
_HALF_A_VOTE = 0.5  # for each tag, so that a tag without votes is unlikely and not impossible

# One doubts nothing, the second leans on the prior and discounts correlated rules, the third hears no silence.
_WITNESSES = (
    NaiveBayes(),
    NaiveBayes(share=1.0, prior_rows=3.0, doubt=0.3),
    NaiveBayes(silence=0.0, doubt=1.0),
)


class Kommuna(LabelModel):
    """A logarithmic pool of five opinions; dev rows that no opinion saw tell what each is worth.

    - three naive Bayes models with class prior and evidence from dev, accuracies bound to coverage and EM on distinct
      patterns (`NaiveBayes`): as it is; with correlated rules discounted; with silence unheard and more discount;
    - a ridge regression of the tag on the votes, from dev rows alone (`regression`);
    - the majority vote, ``log(votes for the tag + 1/2)``, which learns nothing and so cannot be misled.

    ::

        P(y | votes)  ∝  exp( Σ_e w[e] · opinion[e, y] ),   w ≥ 0

    The weights w are the likeliest on covered dev rows, each judged by opinions fitted without it (five folds), so
    whether silence informs, correlation hurts or the rules' own word is best is settled by the dev rows, and the
    pooled probabilities are calibrated (`pool_weights`). All but the last opinion are linear in the outcomes: their
    weighted sum is one sparse product.

    With fewer dev rows than tags or than two a fold there is nothing to weigh opinions by: then the model is
    `Unlabeled`, which takes from the votes only what needs no dev rows.

    Args:
        seed: of the folds, and of the sample of rows that EM learns from.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self._seed = seed

    def fit(self, votes: VotePatterns, dev: DevRows | None = None) -> Self:
        """Fits on covered rows and dev rows."""
        self._k = len(votes.tags)
        self._unlabeled: Unlabeled | None = None
        if dev is None or len(dev) < max(self._k, 2 * _FOLDS):
            self._unlabeled = Unlabeled(seed=self._seed).fit(votes)
            self.held_out = None if dev is None else self._unlabeled.predict(dev.votes)
            return self
        seen = self._evidence(votes, dev)
        fold = np.random.default_rng(self._seed).permutation(len(dev)) % _FOLDS
        opinions = _cross_fitted(seen, dev, fold)
        covered = (dev.votes >= 0).any(axis=1)
        self.weights = pool_weights(opinions[:, covered], dev.truth[covered])
        self.held_out = np.empty((len(dev), self._k))
        for f in range(_FOLDS):
            others = covered & (fold != f)
            weights = pool_weights(opinions[:, others], dev.truth[others])
            self.held_out[fold == f] = softmax(np.tensordot(weights, opinions[:, fold == f], 1))
        linear = list(zip(self.weights, _linear_opinions(seen), strict=False))
        self._pooled = Linear(
            np.asarray(sum(w * opinion.weight for w, opinion in linear)),
            np.asarray(sum(w * opinion.bias for w, opinion in linear)),
        )
        return self

    def predict(self, votes: Codes) -> Beliefs:
        if self._unlabeled is not None:
            return self._unlabeled.predict(votes)
        logits = self._pooled.logits(self._outcomes.happened(votes))
        logits += self.weights[-1] * _vote(votes, self._k)
        return softmax(logits)

    def _evidence(self, votes: VotePatterns, dev: DevRows) -> Evidence:
        self._outcomes = found = outcomes(votes.votes, self._k, dev.votes)
        happened_dev = found.happened(dev.votes)
        seen = found.rows_of(votes.votes, votes.counts) + happened_dev.sum(axis=0)
        few = sample(votes, seed=self._seed)
        happened, counts = found.happened(few.votes), few.counts.astype(np.float64)
        return Evidence(
            found,
            happened,
            counts * few.covered,
            np.asarray(seen / (votes.rows + len(dev))),
            pairs(found, happened, counts, counts.sum()),
            happened_dev,
            np.eye(self._k)[dev.truth],
        )


def _cross_fitted(seen: Evidence, dev: DevRows, fold: NDArray[np.intp]) -> Floats:
    """The opinions (e x d x k logits) on each dev row, fitted without its fold."""
    k = seen.truth.shape[1]
    opinions = np.empty((len(_WITNESSES) + 2, len(dev), k))
    opinions[-1] = _vote(dev.votes, k)
    for f in range(_FOLDS):
        held = fold == f
        for e, opinion in enumerate(_linear_opinions(seen.without(held))):
            opinions[e, held] = opinion.logits(seen.dev[np.flatnonzero(held)])
    return opinions


def _linear_opinions(seen: Evidence) -> list[Linear]:
    return [*(witness.fit(seen) for witness in _WITNESSES), regression(seen)]


def _vote(votes: Codes, k: int) -> Floats:
    return np.asarray(np.log(tally(votes, k) + _HALF_A_VOTE))

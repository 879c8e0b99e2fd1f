"""The `kommuna` model: several opinions on the votes, each with other assumptions, pooled as dev rows deserve."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.labeling.models.base import Beliefs, DevRows, LabelModel, tally
from kommuna.steps.labeling.models.dawid_skene import DawidSkene
from kommuna.steps.labeling.models.naive_bayes import Evidence, Floats, Linear, NaiveBayes, softmax
from kommuna.steps.labeling.models.opinion_pool import pool_weights, regression
from kommuna.steps.labeling.models.outcomes import outcomes
from kommuna.steps.labeling.patterns import Codes, VotePatterns

_FOLDS = 5
_SAMPLE = 20_000  # rows that EM learns from where there are more distinct patterns than that
_AT_ONCE = 50_000  # patterns whose beliefs are worked out together: bounds memory
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

    With fewer dev rows than tags or than two a fold it is `DawidSkene`: there is nothing to weigh opinions by.

    Args:
        seed: of the folds, and of the sample of rows that EM learns from.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self._seed = seed

    def fit(self, votes: VotePatterns, dev: DevRows | None = None) -> Self:
        """Fits on covered rows and dev rows."""
        self._k = len(votes.tags)
        self._alone: DawidSkene | None = None
        if dev is None or len(dev) < max(self._k, 2 * _FOLDS):
            self._alone = DawidSkene().fit(votes, dev)
            return self
        seen = self._evidence(votes, dev)
        covered = (dev.votes >= 0).any(axis=1)
        opinions = self._cross_fitted(seen, dev)
        self.weights = pool_weights(opinions[:, covered], dev.truth[covered])
        linear = _linear_opinions(seen)
        pairs = list(zip(self.weights, linear, strict=False))
        self._pooled = Linear(
            np.asarray(sum(w * opinion.weight for w, opinion in pairs)),
            np.asarray(sum(w * opinion.bias for w, opinion in pairs)),
        )
        return self

    def predict(self, votes: Codes) -> Beliefs:
        if self._alone is not None:
            return self._alone.predict(votes)
        beliefs = np.empty((len(votes), self._k))
        for start in range(0, len(votes), _AT_ONCE):
            part = votes[start : start + _AT_ONCE]
            logits = self._pooled.logits(self._outcomes.happened(part)) + self.weights[-1] * _vote(part, self._k)
            beliefs[start : start + _AT_ONCE] = softmax(logits)
        return beliefs

    def _evidence(self, votes: VotePatterns, dev: DevRows) -> Evidence:
        self._outcomes = outcomes(np.concatenate([votes.votes, dev.votes]), self._k)
        patterns, counts = votes.votes, votes.counts.astype(np.float64)
        if len(patterns) > _SAMPLE:
            drawn = np.random.default_rng(self._seed).multinomial(_SAMPLE, counts / counts.sum())
            patterns, counts = patterns[drawn > 0], (drawn[drawn > 0] * (votes.rows / _SAMPLE)).astype(np.float64)
        covered = (patterns >= 0).any(axis=1)
        return Evidence(
            self._outcomes,
            self._outcomes.happened(patterns),
            counts * covered,
            float(votes.rows),
            self._outcomes.happened(dev.votes),
            np.eye(self._k)[dev.truth],
        )

    def _cross_fitted(self, seen: Evidence, dev: DevRows) -> NDArray[np.float64]:
        """The opinions (e x d x k logits) on each dev row, fitted without it."""
        fold = np.random.default_rng(self._seed).permutation(len(dev)) % _FOLDS
        opinions = np.empty((len(_WITNESSES) + 2, len(dev), self._k))
        opinions[-1] = _vote(dev.votes, self._k)
        for f in range(_FOLDS):
            held = fold == f
            for e, opinion in enumerate(_linear_opinions(seen.without(held))):
                opinions[e, held] = opinion.logits(seen.dev[np.flatnonzero(held)])
        return opinions


def _linear_opinions(seen: Evidence) -> list[Linear]:
    return [*(witness.fit(seen) for witness in _WITNESSES), regression(seen)]


def _vote(votes: Codes, k: int) -> Floats:
    return np.asarray(np.log(tally(votes, k) + _HALF_A_VOTE))

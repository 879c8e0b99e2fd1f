"""The `kommuna` model: several opinions on the votes, each with other assumptions, pooled as dev rows deserve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.labeling.models.base import FOLDS, BaseLabelModel, Beliefs, DevRows, HeldOut, folds
from kommuna.steps.labeling.models.iterated_majority import with_iterated_majority
from kommuna.steps.labeling.models.judged_by_others import judged_by_others
from kommuna.steps.labeling.models.naive_bayes import Evidence, Floats, Linear, NaiveBayes, pairs, softmax
from kommuna.steps.labeling.models.opinion_pool import correction, pool_weights
from kommuna.steps.labeling.models.outcomes import Outcomes, outcomes
from kommuna.steps.labeling.models.unlabeled import Unlabeled
from kommuna.steps.labeling.patterns import Codes, VotePatterns, sample

# One doubts nothing, the other leans on the prior and discounts correlated rules.
_TAUGHT = (NaiveBayes(), NaiveBayes(share=1.0, prior_rows=3.0, doubt=0.3))


class Kommuna(BaseLabelModel):
    """A logarithmic pool of three opinions and a correction; dev rows that no opinion saw tell what each is worth.

    - two naive Bayes models with class prior and evidence from dev, accuracies bound to coverage and EM on distinct
      patterns (`NaiveBayes`): as it is, and with correlated rules discounted;
    - what agreement alone tells of the rules, silence unheard: `judged_by_others` where a rule votes for one tag,
      `with_iterated_majority` where it votes for several;
    - what the outcomes tell beyond the pool, by ridge regression on the dev rows (`correction`).

    ::

        P(y | votes)  ∝  exp( Σ_e w[e] · opinion[e, y]  +  Σ_f correction[f, y] (outcomes that happened) ),   w ≥ 0

    The weights w are the likeliest on covered dev rows, each judged by opinions fitted without it (five folds), so
    whether silence informs, correlation hurts or the rules' own word is best is settled by the dev rows
    (`pool_weights`); the correction is learned from the same held-out opinions. All is linear in the outcomes: one
    sparse product tells it.

    With fewer dev rows than tags or than two a fold there is nothing to weigh opinions by: then the model is
    `Unlabeled`.

    Args:
        seed: of the folds, and of the sample of rows that EM learns from.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self._seed = seed

    def fit(self, votes: VotePatterns, dev: DevRows | None = None) -> Self:
        """Fits on covered rows and dev rows."""
        self._k = len(votes.tags)
        self._unlabeled: Unlabeled | None = None
        if dev is None or len(dev) < max(self._k, 2 * FOLDS):
            self._unlabeled = Unlabeled(seed=self._seed).fit(votes)
            return self
        seen = self._evidence(votes, dev)
        fold = folds(len(dev), seed=self._seed)
        agreement = _agreement(seen)
        without = [_opinions(seen.without(fold == f), agreement) for f in range(FOLDS)]
        told = _told_apart(seen, without, fold)
        rest = [_pool(seen, dev, told, without[f], fold != f) for f in range(FOLDS)]
        self.held_out = HeldOut.told([pool.predict for pool in rest], fold, dev.votes, self._k)
        self._pool = _pool(seen, dev, told, _opinions(seen, agreement), np.ones(len(dev), dtype=bool))
        return self

    def predict(self, votes: Codes) -> Beliefs:
        return (self._unlabeled or self._pool).predict(votes)

    def _evidence(self, votes: VotePatterns, dev: DevRows) -> Evidence:
        found = outcomes(votes.votes, self._k, dev.votes, votes.counts)
        happened_dev = found.happened(dev.votes)
        few = sample(votes, seed=self._seed)
        happened, counts = found.happened(few.votes), few.counts.astype(np.float64)
        return Evidence(
            found,
            happened,
            counts * few.covered,
            found.rows / (votes.rows + len(dev)),
            pairs(found, happened, counts, counts.sum()),
            happened_dev,
            np.eye(self._k)[dev.truth],
        )


@dataclass(frozen=True)
class _Pool:
    """Opinions and correction as one linear opinion."""

    outcomes: Outcomes
    linear: Linear

    def predict(self, votes: Codes) -> Beliefs:
        """P x k probabilities."""
        return softmax(self.linear.logits(self.outcomes.happened(votes)))


def _agreement(seen: Evidence) -> Linear:
    judged = judged_by_others(seen.outcomes, seen.happened, seen.counts, seen.frequency)
    return with_iterated_majority(seen.outcomes, judged.weight, seen.happened, seen.counts)


def _opinions(seen: Evidence, agreement: Linear) -> list[Linear]:
    return [*(taught.fit(seen) for taught in _TAUGHT), agreement]


def _told_apart(seen: Evidence, without: list[list[Linear]], fold: NDArray[np.int64]) -> Floats:
    """The opinions (e x d x k logits) on each dev row, by those fitted without its fold."""
    told = np.empty((len(without[0]), *seen.truth.shape))
    for f, opinions in enumerate(without):
        held = fold == f
        for e, opinion in enumerate(opinions):
            told[e, held] = opinion.logits(seen.dev[np.flatnonzero(held)])
    return told


def _pool(seen: Evidence, dev: DevRows, told: Floats, opinions: list[Linear], rows: NDArray[np.bool_]) -> _Pool:
    """Opinions pooled, by weights and a correction that are learned from what they told of some dev rows."""
    rows = rows & (dev.votes >= 0).any(axis=1)
    weights = pool_weights(told[:, rows], dev.truth[rows])
    pooled = np.tensordot(weights, told[:, rows], 1)
    beyond = correction(seen.dev[np.flatnonzero(rows)], seen.truth[rows], pooled)
    weighted = list(zip(weights, opinions, strict=True))
    linear = Linear(
        beyond + sum(w * opinion.weight for w, opinion in weighted),
        np.asarray(sum(w * opinion.bias for w, opinion in weighted)),
    )
    return _Pool(seen.outcomes, linear)

"""The `kommuna` model: several opinions on the votes, each with other assumptions, pooled as dev rows deserve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from kommuna.steps.labeling.models.base import FOLDS, Beliefs, DevRows, HeldOut, LabelModel, folds
from kommuna.steps.labeling.models.naive_bayes import Evidence, Floats, Linear, NaiveBayes, pairs, softmax
from kommuna.steps.labeling.models.opinion_pool import correction, pool_weights
from kommuna.steps.labeling.models.outcomes import Outcomes, outcomes
from kommuna.steps.labeling.models.unlabeled import Unlabeled
from kommuna.steps.labeling.patterns import Codes, VotePatterns, sample

_HALF_A_VOTE = 0.5  # for each tag, so that a tag without votes is unlikely and not impossible

# One doubts nothing, the second leans on the prior and discounts correlated rules, the third hears no silence.
_WITNESSES = (
    NaiveBayes(),
    NaiveBayes(share=1.0, prior_rows=3.0, doubt=0.3),
    NaiveBayes(silence=0.0, doubt=1.0),
)


class Kommuna(LabelModel):
    """A logarithmic pool of four opinions and a correction; dev rows that no opinion saw tell what each is worth.

    - three naive Bayes models with class prior and evidence from dev, accuracies bound to coverage and EM on distinct
      patterns (`NaiveBayes`): as it is; with correlated rules discounted; with silence unheard and more discount;
    - the majority vote, ``log(votes for the tag + 1/2)``, which learns nothing and so cannot be misled;
    - what the outcomes tell beyond the pool, by ridge regression on the dev rows (`correction`).

    ::

        P(y | votes)  ∝  exp( Σ_e w[e] · opinion[e, y]  +  Σ_f correction[f, y] (outcomes that happened) ),   w ≥ 0

    The weights w are the likeliest on covered dev rows, each judged by opinions fitted without it (five folds), so
    whether silence informs, correlation hurts or the rules' own word is best is settled by the dev rows
    (`pool_weights`); the correction is learned from the same held-out opinions. All but the vote is linear in the
    outcomes: one sparse product tells it.

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
        if dev is None or len(dev) < max(self._k, 2 * FOLDS):
            self._unlabeled = Unlabeled(seed=self._seed).fit(votes)
            return self
        seen = self._evidence(votes, dev)
        fold = folds(len(dev), seed=self._seed)
        linear = [_linear_opinions(seen.without(fold == f)) for f in range(FOLDS)]
        opinions = _told_apart(seen, linear, fold)
        rest = [_pool(seen, dev, opinions, linear[f], fold != f) for f in range(FOLDS)]
        self.held_out = HeldOut.told([pool.predict for pool in rest], fold, dev.votes, self._k)
        self._pool = _pool(seen, dev, opinions, _linear_opinions(seen), np.ones(len(dev), dtype=bool))
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
    """Opinions and correction as one linear opinion, beside the majority vote."""

    outcomes: Outcomes
    linear: Linear
    vote_weight: float

    def predict(self, votes: Codes) -> Beliefs:
        """P x k probabilities."""
        happened = self.outcomes.happened(votes)
        logits = self.linear.logits(happened)
        vote = _vote(self.outcomes, happened).tocoo()
        logits[vote.row, vote.col] += self.vote_weight * vote.data
        return softmax(logits)


def _told_apart(seen: Evidence, linear: list[list[Linear]], fold: NDArray[np.int64]) -> Floats:
    """The opinions (e x d x k logits) on each dev row, by those fitted without its fold; the vote is the last."""
    opinions = np.empty((len(_WITNESSES) + 1, *seen.truth.shape))
    opinions[-1] = _vote(seen.outcomes, seen.dev).toarray()
    for f, without in enumerate(linear):
        held = fold == f
        for e, opinion in enumerate(without):
            opinions[e, held] = opinion.logits(seen.dev[np.flatnonzero(held)])
    return opinions


def _pool(seen: Evidence, dev: DevRows, opinions: Floats, linear: list[Linear], rows: NDArray[np.bool_]) -> _Pool:
    """Linear opinions pooled, by weights and a correction that are learned from some dev rows."""
    rows = rows & (dev.votes >= 0).any(axis=1)
    weights = pool_weights(opinions[:, rows], dev.truth[rows])
    told = np.tensordot(weights, opinions[:, rows], 1)
    beyond = correction(seen.dev[np.flatnonzero(rows)], seen.truth[rows], told)
    weighted = list(zip(weights, linear, strict=False))  # the vote, which is not linear, is the last
    pooled = Linear(
        beyond + sum(w * opinion.weight for w, opinion in weighted),
        np.asarray(sum(w * opinion.bias for w, opinion in weighted)),
    )
    return _Pool(seen.outcomes, pooled, float(weights[-1]))


def _linear_opinions(seen: Evidence) -> list[Linear]:
    return [witness.fit(seen) for witness in _WITNESSES]


def _vote(found: Outcomes, happened: sparse.csr_array) -> sparse.csr_array:
    return found.usual_word(happened, np.ones(len(found), dtype=bool), _HALF_A_VOTE)

"""The `kommuna` model: a logarithmic opinion pool of models with different assumptions, weighted on dev rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from kommuna.steps.cores import at_once, side_by_side
from kommuna.steps.labeling.models.base import (
    FOLDS,
    BaseLabelModel,
    DevRows,
    HeldOut,
    Probabilities,
    candidate_tags,
    limit_to_candidates,
    softmax,
)  # fmt: skip
from kommuna.steps.labeling.models.lift import Floats
from kommuna.steps.labeling.models.naive_bayes import LinearLogits, NaiveBayes, OutcomeData
from kommuna.steps.labeling.models.pooled.opinion_pool import corrections, pool_weights
from kommuna.steps.labeling.models.pooled.without_dev import Opinion, learn_from_votes
from kommuna.steps.labeling.votes.patterns import CastVotes, Codes, VotePatterns
from kommuna.steps.statistics import folds

# The second has a stronger prior and discounts correlated outcomes.
_DEV_MODELS = (NaiveBayes(), NaiveBayes(share=1.0, prior_rows=3.0, doubt=0.3))
_MIN_DEV_ROWS = 2 * FOLDS  # and as many as tags; with fewer the pool is not fitted
_PENALTIES = (10.0, 3.0, 1.0, 0.3)  # of the correction, largest first
_PENALTY_ROWS = 200.0  # penalty x dev rows of the smallest penalty tried: a weak penalty needs many dev rows
_TIED = 1e-9
_PULL = 30.0  # strength of the prior of the pool's weights, which is the votes alone


class Kommuna(BaseLabelModel):
    """`VotesOnly`, and with dev rows a logarithmic opinion pool of it and three other models.

    - two naive Bayes models that learn from the dev rows (`NaiveBayes`): one plain, one that discounts correlated
      rules;
    - rules weighted by their agreement with each other (`leave_one_out_agreement`, `with_weighted_majority`), without
      using abstentions;
    - a correction of the pool, by ridge regression on the dev rows (`corrections`).

    ::

        P(y | votes)  ∝  exp( Σ_e w[e] · opinion[e, y]  +  Σ_f correction[f, y] (outcomes that happened) ),   w ≥ 0

    The weights w have the maximum posterior probability on covered dev rows, each predicted by models fitted without it
    (five folds), under a prior at the votes alone (`pool_weights`). The correction is learned from the same held-out
    predictions. The held-out likelihood decides whether there is a correction, and with which penalty. It also decides
    whether to use the pool at all: the pool must gain more than one standard error over the votes alone (calibrated on
    dev rows), and must not be right on fewer rows, so that a few dev rows do not make the model worse. Fewer than ten
    dev rows, or than tags, are ignored.

    A tag that has neither a vote on a row nor a dev row is never the row's likeliest tag.

    docs/decisions/0008-label-models.md has the measurements behind this design.

    Args:
        seed: seed of the folds, and of the sample of rows that EM uses.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self._seed = seed

    def fit(self, votes: VotePatterns, dev: DevRows | None = None) -> Self:
        """Fits the model on the votes, and on the dev rows if there are enough."""
        k = len(votes.tags)
        data = OutcomeData.of(votes, DevRows.none(votes) if dev is None else dev, sample_seed=self._seed)
        if dev is None or len(dev) < max(_MIN_DEV_ROWS, k):
            self._fitted_pool = _FittedPool(learn_from_votes(data)[0], np.zeros(k, dtype=bool))
            return self
        fold = folds(len(dev), FOLDS, seed=self._seed)
        if (dev.votes >= 0).any(axis=1).sum() >= _MIN_DEV_ROWS:
            self._fitted_pool, without = _PoolSelection.of(data, dev, fold).select()
        else:
            self._fitted_pool = _FittedPool(learn_from_votes(data)[0], np.zeros(k, dtype=bool))
            without = [self._fitted_pool] * FOLDS
        self.held_out = HeldOut.predicted([pool.predict for pool in without], fold, dev.votes, k)
        return self

    def predict(self, votes: Codes) -> Probabilities:
        """Returns P x k probabilities; see `BaseLabelModel.predict`."""
        return self._fitted_pool.predict(votes)


@dataclass(frozen=True)
class _FittedPool:
    """The pooled opinion, and the tags that have dev rows."""

    opinion: Opinion
    known: NDArray[np.bool_]

    def predict(self, votes: Codes) -> Probabilities:
        """P x k probabilities."""
        cast = CastVotes.of(votes)
        probabilities: Probabilities = softmax(self.opinion.logits(cast))
        if self.known.all():
            return probabilities
        return limit_to_candidates(probabilities, candidate_tags(cast, self.known, self.opinion.outcomes.voted_tags))


@dataclass(frozen=True)
class _PoolSelection:
    """The opinions on the dev rows, from which the pool's weights are chosen.

    Attributes:
        data: votes and dev rows.
        dev: the dev rows.
        votes_only: the opinion of `VotesOnly`.
        weighted: the logits of rules weighted by their agreement.
        fold: d, the fold of each dev row.
        dev_opinions: for each fold, the logits of `_DEV_MODELS` fitted without it.
        logits: e x d x k, the logits of each dev row by models fitted without its fold; the votes alone come first.
    """

    data: OutcomeData
    dev: DevRows
    votes_only: Opinion
    weighted: LinearLogits
    fold: NDArray[np.int64]
    dev_opinions: list[list[LinearLogits]]
    logits: Floats

    @classmethod
    def of(cls, data: OutcomeData, dev: DevRows, fold: NDArray[np.int64]) -> _PoolSelection:
        training_data = [data.without(fold == f) for f in range(FOLDS)]
        (votes_only, weighted), dev_opinions = at_once(
            lambda: learn_from_votes(data), lambda: _learn_from_dev(training_data)
        )
        logits = np.empty((2 + len(_DEV_MODELS), *data.truth.shape))
        logits[0], logits[1] = votes_only.logits(CastVotes.of(dev.votes)), weighted.logits(data.dev_indicators)
        for f, opinions in enumerate(dev_opinions):
            held = np.flatnonzero(fold == f)
            logits[2:, held] = [opinion.logits(data.dev_indicators[held]) for opinion in opinions]
        return cls(data, dev, votes_only, weighted, fold, dev_opinions, logits)

    def select(self) -> tuple[_FittedPool, list[_FittedPool]]:
        """Selects the pool by its held-out likelihood; returns it and its version without each fold."""
        penalties = [p for p in _PENALTIES if p * len(self.dev) >= _PENALTY_ROWS]
        training_rows = [self.fold != f for f in range(FOLDS)]
        votes_only_weights = side_by_side(lambda rows: self._weights(rows, opinions=1), training_rows)
        pool_weights_by_fold = side_by_side(lambda rows: self._weights(rows, opinions=len(self.logits)), training_rows)
        correction_by_fold = side_by_side(
            lambda f: self._corrections(training_rows[f], pool_weights_by_fold[f], penalties), range(FOLDS)
        )
        no_correction: list[Floats | float] = [0.0] * FOLDS
        by_votes = self._held_out(votes_only_weights, no_correction)
        tried = [
            self._held_out(pool_weights_by_fold, found) - by_votes
            for found in (no_correction, *zip(*correction_by_fold, strict=True))
        ]
        choice = int(np.argmax([_significant_gain(*gain) for gain in tried]))
        all_rows = np.ones(len(self.dev), dtype=bool)
        if not _significant_gain(*tried[choice]):
            return self._pool(self._weights(all_rows, opinions=1), 0.0, self.dev_opinions[0], all_rows), [
                self._pool(w, 0.0, self.dev_opinions[f], training_rows[f]) for f, w in enumerate(votes_only_weights)
            ]
        weights = self._weights(all_rows, opinions=len(self.logits))
        correction = self._corrections(all_rows, weights, penalties[:choice])[-1] if choice else 0.0
        without = [
            self._pool(
                pool_weights_by_fold[f],
                correction_by_fold[f][choice - 1] if choice else 0.0,
                self.dev_opinions[f],
                training_rows[f],
            )
            for f in range(FOLDS)
        ]
        (dev_opinions,) = _learn_from_dev([self.data])
        return self._pool(weights, correction, dev_opinions, all_rows), without

    def _weights(self, rows: NDArray[np.bool_], *, opinions: int) -> Floats:
        """Fits the weights of the first `opinions` of e opinions on some dev rows; the others are 0."""
        chosen = rows & self._covered
        prior_weights = np.eye(opinions)[0]
        weights = np.zeros(len(self.logits))
        weights[:opinions] = pool_weights(
            self.logits[:opinions, chosen], self.dev.truth[chosen], prior_weights, pull=_PULL if opinions > 1 else 1.0
        )
        return weights

    def _corrections(self, rows: NDArray[np.bool_], weights: Floats, penalties: Sequence[float]) -> list[Floats]:
        chosen = np.flatnonzero(rows & self._covered)
        pooled = np.tensordot(weights, self.logits[:, chosen], 1)
        return corrections(self.data.dev_indicators[chosen], self.data.truth[chosen], pooled, penalties=penalties)

    def _held_out(self, weights: Sequence[Floats], correction_by_fold: Sequence[Floats | float]) -> Floats:
        """Returns the log-likelihood of each covered dev row's tag, and the chance that it is predicted: 2 x c."""
        logits = np.empty(self.data.truth.shape)
        for f in range(FOLDS):
            held = np.flatnonzero(self.fold == f)
            logits[held] = np.tensordot(weights[f], self.logits[:, held], 1)
            if not isinstance(correction_by_fold[f], float):
                logits[held] += self.data.dev_indicators[held] @ correction_by_fold[f]
        row = np.arange(len(logits))
        likelihood = log_softmax(logits, axis=1)[row, self.dev.truth]
        first = logits >= logits.max(axis=1, keepdims=True) - _TIED
        right = first[row, self.dev.truth] / first.sum(axis=1)
        return np.asarray([likelihood, right])[:, self._covered]

    def _pool(
        self,
        weights: Floats,
        correction: Floats | float,
        dev_opinions: list[LinearLogits],
        rows: NDArray[np.bool_],
    ) -> _FittedPool:
        parts = [self.weighted, *dev_opinions]
        added = LinearLogits(
            np.asarray(correction + sum(w * part.weight for w, part in zip(weights[1:], parts, strict=True))),
            np.asarray(sum(w * part.bias for w, part in zip(weights[1:], parts, strict=True))),
        )
        known = np.asarray(self.data.truth[rows].any(axis=0) & bool(weights[1:].any()))
        return _FittedPool(self.votes_only.plus(added, float(weights[0])), known)

    @cached_property
    def _covered(self) -> NDArray[np.bool_]:
        return np.asarray((self.dev.votes >= 0).any(axis=1))


def _significant_gain(log_likelihood: Floats, right: Floats) -> float:
    """Returns the gain in log-likelihood over the votes alone; 0 if the votes alone are to be kept.

    They are kept if the gain is within one standard error, and if fewer rows are right: where there are many tags,
    probabilities can become better while the likeliest tag becomes worse.

    Args:
        log_likelihood: the gain of each held-out row.
        right: the gain of each row in being right, -1 to 1.
    """
    gain = float(log_likelihood.sum())
    kept = right.sum() < 0 or gain <= np.sqrt(log_likelihood @ log_likelihood)
    return 0.0 if kept else gain


def _learn_from_dev(parts: Sequence[OutcomeData]) -> list[list[LinearLogits]]:
    """Fits the models of `_DEV_MODELS` on each part; returns their logits part by part."""
    fitted = side_by_side(lambda task: task[0].fit(task[1]).opinion, product(_DEV_MODELS, parts))
    return [fitted[part :: len(parts)] for part in range(len(parts))]

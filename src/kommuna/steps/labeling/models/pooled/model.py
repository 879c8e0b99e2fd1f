"""The `kommuna` model: several opinions on the votes, each with other assumptions, pooled as dev rows deserve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from threadpoolctl import threadpool_limits

from kommuna.steps.cores import side_by_side
from kommuna.steps.labeling.models.base import (
    FOLDS,
    BaseLabelModel,
    Beliefs,
    DevRows,
    HeldOut,
    may_win,
    only_voted,
    softmax,
)  # fmt: skip
from kommuna.steps.labeling.models.lift import Floats
from kommuna.steps.labeling.models.naive_bayes import Evidence, Linear, NaiveBayes
from kommuna.steps.labeling.models.pooled.opinion_pool import corrections, pool_weights
from kommuna.steps.labeling.models.pooled.without_dev import Opinion, read_votes
from kommuna.steps.labeling.votes.patterns import CastVotes, Codes, VotePatterns
from kommuna.steps.statistics import folds

# The first takes all outcomes at their word, the second leans on the prior and discounts correlated ones.
_FROM_DEV = (NaiveBayes(), NaiveBayes(share=1.0, prior_rows=3.0, doubt=0.3))
_LEAST_DEV, _LEAST_PER_TAG = 2 * FOLDS, 0.5  # dev rows; by fewer nothing can be judged
_PENALTIES = (10.0, 3.0, 1.0, 0.3)  # of the correction, the greatest first
_PENALTY_ROWS = 200.0  # the least penalty that is tried, times the dev rows: a weak one needs many
_PULL = 30.0  # of the pool's weights to the votes alone


class Kommuna(BaseLabelModel):
    """What the votes alone say (`Unlabeled`), and with dev rows a logarithmic pool of it with three other opinions.

    - two naive Bayes models with class prior and evidence from dev (`NaiveBayes`): as it is, and with correlated rules
      discounted;
    - what agreement alone says of the rules (`judged_by_others`, `with_iterated_majority`), silence unheard;
    - what the outcomes say beyond the pool, by ridge regression on the dev rows (`corrections`).

    ::

        P(y | votes)  ∝  exp( Σ_e w[e] · opinion[e, y]  +  Σ_f correction[f, y] (outcomes that happened) ),   w ≥ 0

    The weights w are the likeliest on covered dev rows, each judged by opinions fitted without it (five folds), under a
    pull to the votes alone (`pool_weights`). The correction is learned from the same held-out opinions. Whether there
    is one, with which penalty, or whether the votes alone stand, is decided by the held-out likelihood: dev rows must
    gain more than one standard error over the votes alone, themselves calibrated on dev rows, so a few dev rows do not
    make a model worse than none. With fewer than ten, or half as many as tags, they are not heard.

    A tag without a vote on a row and without a dev row is never its likeliest.

    docs/decisions/0008-label-models.md has the figures that decided.

    Args:
        seed: of the folds, and of the sample of rows that EM learns from.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self._seed = seed

    def fit(self, votes: VotePatterns, dev: DevRows | None = None) -> Self:
        """Fits on the votes, and on the dev rows if there are enough."""
        with threadpool_limits(1):  # of BLAS, which spins on these products for longer than they take; folds have cores
            return self._fit(votes, dev)

    def _fit(self, votes: VotePatterns, dev: DevRows | None) -> Self:
        k = len(votes.tags)
        seen = Evidence.of(votes, DevRows.none(votes) if dev is None else dev, sampled_by=self._seed)
        untaught, agreed = read_votes(seen)
        self._told = _Told(untaught, np.zeros(k, dtype=bool))
        if dev is not None and len(dev) >= max(_LEAST_DEV, _LEAST_PER_TAG * k):
            fold, without = folds(len(dev), FOLDS, seed=self._seed), [self._told] * FOLDS
            if (dev.votes >= 0).any(axis=1).sum() >= _LEAST_DEV:
                self._told, without = _Pools.of(seen, dev, untaught, agreed, fold).best()
            self.held_out = HeldOut.told([told.predict for told in without], fold, dev.votes, k)
        return self

    def predict(self, votes: Codes) -> Beliefs:
        return self._told.predict(votes)


@dataclass(frozen=True)
class _Told:
    """An opinion, and the tags of which dev rows tell."""

    opinion: Opinion
    known: NDArray[np.bool_]

    def predict(self, votes: Codes) -> Beliefs:
        """P x k probabilities."""
        cast = CastVotes.of(votes)
        beliefs: Beliefs = softmax(self.opinion.logits(cast))
        if self.known.all():
            return beliefs
        return only_voted(beliefs, may_win(cast, self.known, self.opinion.outcomes.ruled))


@dataclass(frozen=True)
class _Pools:
    """The opinions on dev rows, and what is learned of them.

    Attributes:
        seen: votes and dev rows.
        dev: the dev rows.
        untaught: the opinion of the votes alone.
        agreed: what agreement alone says.
        fold: d, the fold of each dev row.
        learned: for each fold, the opinions that are learned without it.
        logits: e x d x k, the opinions on each dev row, by those learned without its fold; the votes alone come first.
    """

    seen: Evidence
    dev: DevRows
    untaught: Opinion
    agreed: Linear
    fold: NDArray[np.int64]
    learned: list[list[Linear]]
    logits: Floats

    @classmethod
    def of(cls, seen: Evidence, dev: DevRows, untaught: Opinion, agreed: Linear, fold: NDArray[np.int64]) -> _Pools:
        learned = _from_dev([seen.without(fold == f) for f in range(FOLDS)])
        logits = np.empty((2 + len(_FROM_DEV), *seen.truth.shape))
        logits[0], logits[1] = untaught.logits(CastVotes.of(dev.votes)), agreed.logits(seen.dev)
        for f, opinions in enumerate(learned):
            held = np.flatnonzero(fold == f)
            logits[2:, held] = [opinion.logits(seen.dev[held]) for opinion in opinions]
        return cls(seen, dev, untaught, agreed, fold, learned, logits)

    def best(self) -> tuple[_Told, list[_Told]]:
        """What dev rows deserve, and the same without each fold of them."""
        penalties = [p for p in _PENALTIES if p * len(self.dev) >= _PENALTY_ROWS]
        rest = [self.fold != f for f in range(FOLDS)]
        alone = side_by_side(lambda rows: self._weights(rows, opinions=1), rest)
        pooled = side_by_side(lambda rows: self._weights(rows, opinions=len(self.logits)), rest)
        beyond = side_by_side(lambda f: self._corrections(rest[f], pooled[f], penalties), range(FOLDS))
        by_votes = self._log_likelihood(alone, [0.0] * FOLDS)
        gains = [self._log_likelihood(pooled, [0.0] * FOLDS) - by_votes]
        for found in zip(*beyond, strict=True):
            gains.append(self._log_likelihood(pooled, found) - by_votes)
        choice = int(np.argmax([gain.sum() for gain in gains]))
        every = np.ones(len(self.dev), dtype=bool)
        if gains[choice].sum() <= np.sqrt(gains[choice] @ gains[choice]):
            return self._told(self._weights(every, opinions=1), 0.0, self.learned[0], every), [
                self._told(w, 0.0, self.learned[f], rest[f]) for f, w in enumerate(alone)
            ]
        weights = self._weights(every, opinions=len(self.logits))
        correction = self._corrections(every, weights, penalties[:choice])[-1] if choice else 0.0
        without = [
            self._told(pooled[f], beyond[f][choice - 1] if choice else 0.0, self.learned[f], rest[f])
            for f in range(FOLDS)
        ]
        (learned,) = _from_dev([self.seen])
        return self._told(weights, correction, learned, every), without

    def _weights(self, rows: NDArray[np.bool_], *, opinions: int) -> Floats:
        """e weights of the pool, learned from some dev rows; 0 but for the first `opinions`."""
        chosen = rows & self._covered
        usual = np.eye(opinions)[0]
        weights = np.zeros(len(self.logits))
        weights[:opinions] = pool_weights(
            self.logits[:opinions, chosen], self.dev.truth[chosen], usual, pull=_PULL if opinions > 1 else 1.0
        )
        return weights

    def _corrections(self, rows: NDArray[np.bool_], weights: Floats, penalties: Sequence[float]) -> list[Floats]:
        chosen = np.flatnonzero(rows & self._covered)
        pooled = np.tensordot(weights, self.logits[:, chosen], 1)
        return corrections(self.seen.dev[chosen], self.seen.truth[chosen], pooled, penalties=penalties)

    def _log_likelihood(self, weights: Sequence[Floats], beyond: Sequence[Floats | float]) -> Floats:
        """Of each covered dev row's tag, under what was learned without the row's fold."""
        logits = np.empty(self.seen.truth.shape)
        for f in range(FOLDS):
            held = np.flatnonzero(self.fold == f)
            logits[held] = np.tensordot(weights[f], self.logits[:, held], 1)
            if not isinstance(beyond[f], float):
                logits[held] += self.seen.dev[held] @ beyond[f]
        right = log_softmax(logits, axis=1)[np.arange(len(logits)), self.dev.truth]
        return np.asarray(right[self._covered])

    def _told(self, weights: Floats, beyond: Floats | float, learned: list[Linear], rows: NDArray[np.bool_]) -> _Told:
        parts = [self.untaught.linear, self.agreed, *learned]
        linear = Linear(
            np.asarray(beyond + sum(w * part.weight for w, part in zip(weights, parts, strict=True))),
            np.asarray(sum(w * part.bias for w, part in zip(weights, parts, strict=True))),
        )
        heard = np.asarray(self.seen.truth[rows].any(axis=0) & bool(weights[1:].any()))
        return _Told(
            Opinion(self.seen.outcomes, linear, self.untaught.careful, float(weights[0]) * self.untaught.care), heard
        )

    @cached_property
    def _covered(self) -> NDArray[np.bool_]:
        return np.asarray((self.dev.votes >= 0).any(axis=1))


def _from_dev(parts: Sequence[Evidence]) -> list[list[Linear]]:
    """For each part of the dev rows what is learned from it."""
    told = side_by_side(lambda task: task[0].fit(task[1]).opinion, product(_FROM_DEV, parts))
    return [told[part :: len(parts)] for part in range(len(parts))]

"""What the `kommuna` model makes of votes where there are no dev rows to learn from."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.labeling.models.base import Beliefs, DevRows, LabelModel, shares, tally
from kommuna.steps.labeling.models.dawid_skene import DawidSkene
from kommuna.steps.labeling.models.naive_bayes import Floats, softmax
from kommuna.steps.labeling.models.outcomes import Outcomes
from kommuna.steps.labeling.patterns import Codes, VotePatterns, sample

_ROUNDS = 5
_PRIOR_ROWS, _DEFAULT_ACCURACY = 4.0, 0.7  # of a rule whose votes others have not judged
_HALF = 0.5  # of Dawid and Skene's word


class Unlabeled(LabelModel):
    """Takes from agreement what agreement can tell, and no more.

    - *A rule that casts votes for several tags* meets the other rules' views of every tag, so how often it agrees tells
      how often it is right: its vote counts by the log-odds of its accuracy, which is found in turn with the beliefs
      (iterative weighted majority: Li & Yu 2014, "Error rate bounds and iterative weighted majority voting for
      crowdsourcing").
    - *A rule that only ever votes for one tag*, as keywords do, is met by others on few rows, and by those whose words
      stand in the same sentences. Agreement would tell how usual its words are. Its vote counts as in the majority
      vote, ``log(votes for the tag + 1/k)``, and half by the evidence that `DawidSkene` finds in it.

    Silence is no evidence here, nor is a class prior unless every rule casts votes for several tags: without dev rows
    both would be guessed from the rules' coverage, which is the rules' writer's choice. On the training rows of
    YouTube, TREC, SMS and Banking77 this is above the majority vote on each (.823 .532 .360 .406, against .810 .522
    .358 .308), and plain `DawidSkene` is not.

    Args:
        seed: of the sample of rows that it learns from.
    """

    learns_from_dev = False

    def __init__(self, *, seed: int = 0) -> None:
        self._seed = seed

    def fit(self, votes: VotePatterns, dev: DevRows | None = None) -> Self:
        """Fits on the votes alone."""
        few = sample(votes, seed=self._seed)
        self._k = k = len(votes.tags)
        base = DawidSkene().fit(few)
        self._outcomes = found = base.outcomes
        told = np.log(base.theta) - np.log(base.theta.mean(axis=1, keepdims=True))
        self._bias = np.zeros(k)
        self._weight = np.where(found.one_sided[:, None], _HALF * told, 0.0)
        if not found.one_sided.all():
            accuracy, prior = _accuracy(few, found)
            self._bias = self._bias if found.one_sided.any() else np.log(prior)
            self._weight += np.where(found.one_sided[:, None], 0.0, _log_odds(found, accuracy, k))
        return self

    def predict(self, votes: Codes) -> Beliefs:
        happened = self._outcomes.happened(votes)
        logits = np.asarray(happened @ self._weight) + self._bias
        usual = self._outcomes.usual_word(happened, self._outcomes.one_sided, 1 / self._k).tocoo()
        logits[usual.row, usual.col] += usual.data
        return softmax(logits)


def _accuracy(votes: VotePatterns, found: Outcomes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """m, how often each rule is right, and k, the tags' shares, by the beliefs that both give."""
    k = len(votes.tags)
    happened = found.happened(votes.votes)
    covered = votes.counts * votes.covered.astype(np.float64)
    cast = happened.T @ covered
    judged = np.bincount(found.rule, weights=cast, minlength=len(votes.rules))
    belief = shares(tally(votes.votes, k))
    for _ in range(_ROUNDS):
        supported = (happened.T @ (belief * covered[:, None]) * found.owners).sum(axis=1)
        right = np.bincount(found.rule, weights=supported, minlength=len(votes.rules))
        accuracy = (right + _PRIOR_ROWS * _DEFAULT_ACCURACY) / (judged + _PRIOR_ROWS)
        tags = belief.T @ covered
        prior = (tags + 1) / (tags.sum() + k)
        belief = softmax(np.asarray(happened @ _log_odds(found, accuracy, k)) + np.log(prior))
    return np.asarray(accuracy), np.asarray(prior)


def _log_odds(found: Outcomes, accuracy: NDArray[np.float64], k: int) -> Floats:
    """f x k: what a vote adds to the tags that it speaks for, ``log(a / |those|) - log((1 - a) / |the others|)``."""
    owned = found.owners.sum(axis=1)
    a = accuracy[found.rule]
    weight = np.log(a / owned) - np.log((1 - a) / np.maximum(k - owned, 1))
    return np.asarray(found.owners * weight[:, None])

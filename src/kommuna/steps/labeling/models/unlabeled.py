"""What the `kommuna` model makes of votes where there are no dev rows to learn from."""

from __future__ import annotations

from typing import Self

import numpy as np
from scipy import sparse

from kommuna.steps.labeling.models.base import Beliefs, DevRows, LabelModel, shares
from kommuna.steps.labeling.models.judged_by_others import judged_by_others
from kommuna.steps.labeling.models.naive_bayes import Floats, Linear, softmax
from kommuna.steps.labeling.models.outcomes import Outcomes, outcomes
from kommuna.steps.labeling.patterns import Codes, VotePatterns, sample

_ROUNDS = 5
_PRIOR_ROWS, _DEFAULT_ACCURACY = 4.0, 0.7  # of a rule whose votes others have not judged


class Unlabeled(LabelModel):
    """Takes from agreement what agreement can tell, and no more.

    - *A rule that casts votes for several tags* meets the other rules' views of every tag, so how often it agrees tells
      how often it is right: its vote counts by the log-odds of its accuracy, which is found in turn with the beliefs
      (iterative weighted majority: Li & Yu 2014, "Error rate bounds and iterative weighted majority voting for
      crowdsourcing").
    - *A rule that only ever votes for one tag*, as keywords do, agrees with itself whatever it is worth: its vote
      counts as the other rules judge it (`judged_by_others`).

    Silence is no evidence here, nor is a class prior unless every rule casts votes for several tags: without dev rows
    both would be guessed from the rules' coverage, which is the rules' writer's choice. On the training rows of
    YouTube, TREC, SMS and Banking77 this is above the majority vote on each (.862 .588 .360 .399, against .810 .522
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
        self._outcomes = found = outcomes(few.votes, len(votes.tags), counts=few.counts)
        covered = np.asarray(few.counts * few.covered, dtype=np.float64)
        self._opinion = by_agreement(found, found.happened(few.votes), covered, found.rows / few.counts.sum())
        return self

    def predict(self, votes: Codes) -> Beliefs:
        return softmax(self._opinion.logits(self._outcomes.happened(votes)))


def by_agreement(found: Outcomes, happened: sparse.csr_array, counts: Floats, frequency: Floats) -> Linear:
    """The opinion of `Unlabeled`; arguments as in `judged_by_others`."""
    k = found.owners.shape[1]
    judged = judged_by_others(found, happened, counts, frequency)
    if found.one_sided.all():
        return judged
    accuracy, prior = _accuracy(found, happened, counts)
    weight = np.where(found.one_sided[:, None], judged.weight, _log_odds(found, accuracy, k))
    return Linear(weight, np.zeros(k) if found.one_sided.any() else np.log(prior))


def _accuracy(found: Outcomes, happened: sparse.csr_array, counts: Floats) -> tuple[Floats, Floats]:
    """f, how often each outcome's rule is right, and k, the tags' shares, by the beliefs that both give."""
    k = found.owners.shape[1]
    cast = happened.T @ counts
    judged = np.bincount(found.rule, weights=cast)
    belief = shares(np.asarray(happened @ (found.owners / found.owners.sum(axis=1, keepdims=True))))
    for _ in range(_ROUNDS):
        supported = (happened.T @ (belief * counts[:, None]) * found.owners).sum(axis=1)
        right = np.bincount(found.rule, weights=supported)
        accuracy = ((right + _PRIOR_ROWS * _DEFAULT_ACCURACY) / (judged + _PRIOR_ROWS))[found.rule]
        tags = belief.T @ counts
        prior = (tags + 1) / (tags.sum() + k)
        belief = softmax(np.asarray(happened @ _log_odds(found, accuracy, k)) + np.log(prior))
    return np.asarray(accuracy), np.asarray(prior)


def _log_odds(found: Outcomes, accuracy: Floats, k: int) -> Floats:
    """f x k: what a vote adds to the tags that it speaks for, ``log(a / |those|) - log((1 - a) / |the others|)``."""
    owned = found.owners.sum(axis=1)
    weight = np.log(accuracy / owned) - np.log((1 - accuracy) / np.maximum(k - owned, 1))
    return np.asarray(found.owners * weight[:, None])

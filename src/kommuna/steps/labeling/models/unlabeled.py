"""What the `kommuna` model makes of votes where there are no dev rows to learn from."""

from __future__ import annotations

from typing import Self

import numpy as np

from kommuna.steps.labeling.models.base import BaseLabelModel, Beliefs, DevRows
from kommuna.steps.labeling.models.dawid_skene import DawidSkene
from kommuna.steps.labeling.models.iterated_majority import with_iterated_majority
from kommuna.steps.labeling.models.naive_bayes import softmax
from kommuna.steps.labeling.patterns import Codes, VotePatterns, sample

_HALF = 0.5  # of Dawid and Skene's word


class Unlabeled(BaseLabelModel):
    """Takes from agreement what agreement can tell, and no more.

    - *A rule that casts votes for several tags* counts by how often it agrees with the others
      (`with_iterated_majority`).
    - *A rule that only ever votes for one tag*, as keywords do, is met by others on few rows, and by those whose words
      stand in the same sentences. Agreement would tell how usual its words are. Its vote counts as in the majority
      vote, ``log(votes for the tag + 1/k)``, and half by the evidence that `DawidSkene` finds in it.

    Silence is no evidence here: without dev rows it would be guessed from the rules' coverage, which is the rules'
    writer's choice. On the training rows of YouTube, TREC, SMS and Banking77 this is above the majority vote on each
    (.823 .532 .360 .406, against .810 .522 .358 .308), and plain `DawidSkene` is not. `judged_by_others` in its place
    has .862 .588 .360 .399, but where the messages change it is far below the majority vote (.572 against .608 on
    TREC's test questions, which were collected elsewhere): it is heard where dev rows can judge it.

    Args:
        seed: of the sample of rows that it learns from.
    """

    learns_from_dev = False

    def __init__(self, *, seed: int = 0) -> None:
        self._seed = seed

    def fit(self, votes: VotePatterns, dev: DevRows | None = None) -> Self:
        """Fits on the votes alone."""
        few = sample(votes, seed=self._seed)
        self._k = len(votes.tags)
        base = DawidSkene().fit(few)
        self._outcomes = found = base.outcomes
        told = _HALF * (np.log(base.theta) - np.log(base.theta.mean(axis=1, keepdims=True)))
        covered = np.asarray(few.counts * few.covered, dtype=np.float64)
        self._opinion = with_iterated_majority(found, told, found.happened(few.votes), covered)
        return self

    def predict(self, votes: Codes) -> Beliefs:
        happened = self._outcomes.happened(votes)
        logits = self._opinion.logits(happened)
        usual = self._outcomes.usual_word(happened, 1 / self._k).tocoo()
        logits[usual.row, usual.col] += usual.data
        return softmax(logits)

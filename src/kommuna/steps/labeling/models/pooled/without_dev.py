"""What the `kommuna` model makes of votes where there are no dev rows to learn from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from scipy import sparse

from kommuna.steps.labeling.models.base import BaseLabelModel, Beliefs, DevRows, may_win, only_voted, softmax
from kommuna.steps.labeling.models.dawid_skene import COPY
from kommuna.steps.labeling.models.lift import Floats
from kommuna.steps.labeling.models.naive_bayes import Estimate, Evidence, Linear, NaiveBayes
from kommuna.steps.labeling.models.outcomes import Outcomes
from kommuna.steps.labeling.models.pooled.leave_one_out_agreement import judged_by_others
from kommuna.steps.labeling.models.pooled.weighted_majority import with_iterated_majority
from kommuna.steps.labeling.votes.patterns import CastVotes, Codes, VotePatterns

_HALF = 0.5  # of what agreement tells of a rule that votes for one tag; the count of votes stands beside it
_DEPENDENT = 0.05  # mean excess correlation from which silence is not heard
_FEW_ROWS = 100.0
_STANDS = 0.1  # by how much a tag with the most votes stays ahead, in nats


@dataclass(frozen=True)
class Opinion:
    """What is thought of votes: logits that are linear in the outcomes, and beside them the careful reading.

    Attributes:
        outcomes: the f outcomes.
        linear: weights of the outcomes.
        careful: weights of the outcomes in the careful reading (see `Unlabeled`).
        care: what the careful reading counts for.
    """

    outcomes: Outcomes
    linear: Linear
    careful: Linear
    care: float

    def logits(self, votes: CastVotes) -> Floats:
        """P x k, before tags without votes are held back (`only_voted`)."""
        happened = self.outcomes.happened(votes)
        if not self.outcomes.one_sided.any():  # then both are linear
            return self._both.logits(happened)
        logits = self.linear.logits(happened)
        if self.care:
            logits += self.care * self._careful(happened)
        return logits

    @cached_property
    def _both(self) -> Linear:
        return self.linear.plus(self.careful, self.care)

    @cached_property
    def _one_sided_owners(self) -> Floats:
        return (self.outcomes.owners * self.outcomes.one_sided[:, None]).astype(np.float64)

    def _careful(self, happened: sparse.csr_array) -> Floats:
        logits = self.careful.logits(happened)
        one_sided = self.outcomes.one_sided
        for_one = happened @ self._one_sided_owners
        logits += np.log1p(for_one * logits.shape[1])
        first, second = -np.partition(-for_one, 1, axis=1)[:, :2].T if for_one.shape[1] > 1 else (for_one[:, 0], 0)
        most = np.flatnonzero((first > second) & ~(happened @ ~one_sided).astype(bool))
        tag = for_one[most].argmax(axis=1)
        logits[most, tag] = np.maximum(logits[most, tag], logits[most].max(axis=1) + _STANDS)
        return logits


class Unlabeled(BaseLabelModel):
    """Two readings of the votes, and how far the rules' overlaps bear out the bolder one.

    - *Independent rules* (`NaiveBayes`): a rule's silence counts, and so do the tags' shares. Where rules err
      independently this is far above the majority vote, most of all where tags are rare.
    - *Dependent rules*: keywords stand in the same sentences and are silent together, and how many there are of a tag
      is their writer's choice. This careful reading hears only votes that were cast: ``log(votes for the tag + 1/k)``
      as in the majority vote, and half of what the other rules' word makes of each (`judged_by_others`). A tag with
      more votes than any other stays the likeliest, so it is ties that the others' word decides.

    A rule that casts votes for several tags counts in the second by how often it agrees with the others
    (`with_iterated_majority`); where all rules do, nothing else is read. Near copies are discounted in both.

    The logits of both are averaged with the weights s and 1 - s, ``s = n / (n + 100) · max(0, 1 - D / .05)`` for n
    rows: of a small table little can be learned. D is what speaks against independence: the mean over outcomes of the
    largest correlation with another rule's outcome beyond what the tags explain, near copies aside, less what chance
    would give. On thousands of votes that are generated independently, with or without copies, it is below .02, on the
    training rows of seven text data sets .027 to .13.

    A tag that nobody votes for on a row is not its likeliest, so a row whose votes all agree keeps their tag.

    Args:
        seed: of the sample of rows that it learns from.
    """

    learns_from_dev = False

    def __init__(self, *, seed: int = 0) -> None:
        self._seed = seed

    def fit(self, votes: VotePatterns, dev: DevRows | None = None) -> Self:
        """Fits on the votes alone."""
        self._k = len(votes.tags)
        self._opinion, _ = read_votes(Evidence.of(votes, DevRows.none(votes), sampled_by=self._seed))
        return self

    def predict(self, votes: Codes) -> Beliefs:
        cast = CastVotes.of(votes)
        beliefs = softmax(self._opinion.logits(cast))
        return only_voted(beliefs, may_win(cast, np.zeros(self._k, dtype=bool), self._opinion.outcomes.ruled))


def read_votes(seen: Evidence) -> tuple[Opinion, Linear]:
    """What `Unlabeled` makes of votes, dev rows unread, and its second reading at its full word."""
    found = seen.outcomes
    independent = NaiveBayes(iterations=15 if found.one_sided.any() else 3, doubt=1.0, doubted_from=COPY)
    estimate = independent.fit(seen.without(np.ones(len(seen.truth), dtype=bool)))
    rows = seen.counts.sum()
    s = 0.0
    if found.one_sided.any():
        s = float(rows / (rows + _FEW_ROWS)) * max(0.0, 1 - dependence(seen, estimate) / _DEPENDENT)
    judged = judged_by_others(found, seen.happened, seen.covered, seen.frequency)
    agreed = with_iterated_majority(found, judged.weight, seen.happened, seen.covered, estimate.discount)
    careful = Linear(np.where(found.one_sided[:, None], _HALF, 1) * agreed.weight, agreed.bias)
    bold = Linear(s * estimate.opinion.weight, s * estimate.opinion.bias)
    return Opinion(found, bold, careful, care=1 - s), agreed


def dependence(seen: Evidence, estimate: Estimate) -> float:
    """How far the rules are from erring independently given the tag: 0 where nothing speaks against it (see
    `Unlabeled`)."""
    f, pairs = len(seen.outcomes), seen.pairs
    if not len(pairs.one):
        return 0.0
    most = np.zeros(f)
    apart = np.where(estimate.excess > COPY, 0, estimate.excess)
    np.maximum.at(most, pairs.one, apart)
    np.maximum.at(most, pairs.other, apart)
    chance = np.sqrt(2 * np.log(max(2 * len(pairs.one) / f, 2)) / seen.counts.sum())  # the largest of so many
    return float(np.maximum(most - chance, 0).mean())

"""The interface of label models: `fit` on vote patterns and optional dev rows, then `predict` probabilities."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.labeling.votes.patterns import CastVotes, Codes, VotePatterns

Probabilities = NDArray[np.float64]
Predict = Callable[[Codes], Probabilities]

FOLDS = 5
_JUST_BELOW = 0.999  # a factor far enough below 1 that rounding makes no tie


@dataclass(frozen=True)
class DevRows:
    """Labeled rows.

    Attributes:
        votes: d x m codes, as in `VotePatterns.votes`.
        truth: d, the index of each row's tag.
    """

    votes: Codes
    truth: NDArray[np.int64]

    @classmethod
    def none(cls, votes: VotePatterns) -> Self:
        """Returns an empty set of dev rows with the columns of `votes`."""
        return cls(np.zeros((0, len(votes.rules)), dtype=np.int16), np.zeros(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.truth)

    def where(self, rows: NDArray[np.bool_]) -> DevRows:
        """Selects the rows where the mask is true."""
        return DevRows(self.votes[rows], self.truth[rows])


@dataclass(frozen=True)
class HeldOut:
    """The models of a cross-fit: for each fold of the dev rows one that was fitted without it.

    Attributes:
        fold: d, 0 to F - 1, the fold of each dev row.
        predict: F, the `predict` of the model fitted without the fold's labels.
        probabilities: d x k, for each dev row the prediction of the model fitted without its fold.
    """

    fold: NDArray[np.int64]
    predict: tuple[Predict, ...]
    probabilities: Probabilities

    @classmethod
    def predicted(cls, predict: Sequence[Predict], fold: NDArray[np.int64], votes: Codes, k: int) -> Self:
        """Predicts each dev row with the model that was fitted without its fold.

        Args:
            predict: F, the models' `predict`.
            fold: d, the fold of each dev row.
            votes: d x m codes.
            k: the number of tags.
        """
        probabilities = np.zeros((len(fold), k))
        for f, predict_fold in enumerate(predict):
            probabilities[fold == f] = predict_fold(votes[fold == f])
        return cls(fold, tuple(predict), probabilities)

    def rows_at(self, rows: NDArray[np.intp]) -> HeldOut:
        """Returns the cross-fit of the dev rows with these indices, in this order."""
        return HeldOut(self.fold[rows], self.predict, self.probabilities[rows])


class BaseLabelModel(Protocol):
    """A label model for rows with exactly one tag.

    Attributes:
        learns_from_dev: whether the model learns from dev rows, so that its figures on them need cross-fitting.
        min_rules: the least number of rules that the model can be fitted on.
        held_out: for a model that calibrates itself, its cross-fit on the dev rows that `fit` was given; otherwise
            None.
    """

    learns_from_dev: ClassVar[bool] = True
    min_rules: ClassVar[int] = 1
    held_out: HeldOut | None = None

    @abstractmethod
    def fit(self, votes: VotePatterns, dev: DevRows | None = None) -> Self:
        """Fits the model.

        Args:
            votes: the distinct vote patterns of all rows.
            dev: labeled rows, if there are any.
        """

    @abstractmethod
    def predict(self, votes: Codes) -> Probabilities:
        """Returns P x k probabilities of the tags; each row sums to 1.

        The probabilities of a pattern without a vote are meaningless.

        Args:
            votes: P x m codes.
        """


def candidate_tags(votes: CastVotes, known: NDArray[np.bool_], voted_tags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns which tags may be the likeliest of each pattern, P x k.

    These are the tags that have a vote in the pattern, and those that have dev rows. A pattern with votes against tags
    only may have any other tag that some rule votes for; if there is none, any other tag. A pattern without a vote may
    have any tag.

    Args:
        votes: the votes cast in P patterns.
        known: k, the tags that have dev rows.
        voted_tags: k, the tags that some rule votes for.
    """
    k = len(known)
    cast = np.zeros((votes.patterns, 2 * k), dtype=bool)
    cast[votes.line, votes.code] = True
    candidates = cast[:, :k] | known
    no_vote_for = np.flatnonzero(~cast[:, :k].any(axis=1))
    ruled_out = cast[no_vote_for, k:]
    remaining = ~ruled_out & (voted_tags | known)
    remaining = np.where(remaining.any(axis=1, keepdims=True), remaining, ~ruled_out)
    candidates[no_vote_for] = np.where(remaining.any(axis=1, keepdims=True), remaining, True)
    return candidates


def limit_to_candidates(probabilities: Probabilities, candidates: NDArray[np.bool_]) -> Probabilities:
    """Limits every tag that is not a candidate to just below the likeliest candidate of its pattern, in place.

    Args:
        probabilities: P x k; each row sums to 1.
        candidates: P x k, see `candidate_tags`.
    """
    others = np.where(candidates, 0, probabilities).max(axis=1)
    over = np.flatnonzero(others > probabilities.max(axis=1) * _JUST_BELOW)  # few rows, most often
    if len(over):
        unlimited, candidate = probabilities[over], candidates[over]
        limit = np.where(candidate, unlimited, 0).max(axis=1, keepdims=True) * _JUST_BELOW
        probabilities[over] = normalize_rows(np.where(candidate, unlimited, np.minimum(unlimited, limit)))
    return probabilities


def count_votes(votes: CastVotes, k: int) -> NDArray[np.float64]:
    """Counts the rules that vote for each tag, minus those that vote against it, P x k; never below 0.

    Args:
        votes: the votes cast in P patterns.
        k: the number of tags.
    """
    cells = np.bincount(votes.line * (2 * k) + votes.code, minlength=votes.patterns * 2 * k)
    counts = cells.reshape(votes.patterns, 2 * k).astype(np.float64)
    for_tag, against = counts[:, :k], counts[:, k:]
    only_against = (for_tag.sum(axis=1) == 0) & (against.sum(axis=1) > 0)
    # Where all votes are against tags, the other tags are equally likely.
    for_tag[only_against] = against[only_against] == 0
    return np.maximum(for_tag - np.where(only_against[:, None], 0, against), 0)


def normalize_rows(weights: NDArray[np.float64]) -> Probabilities:
    """Divides each row by its sum; a row of zeros becomes uniform."""
    total = weights.sum(axis=1, keepdims=True)
    if (total > 0).all():
        return np.asarray(weights / total)
    return np.where(total > 0, weights / np.where(total > 0, total, 1), 1 / weights.shape[1])


def softmax(logits: NDArray[np.float64]) -> Probabilities:
    """Turns n x k logits into probabilities, in place.

    SciPy's `softmax` takes twice the time and three times the memory (50,000 x 50).
    """
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits

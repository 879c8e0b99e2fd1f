"""What every label model is: fitted on vote patterns and, where there are some, dev rows; then it tells beliefs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.labeling.votes.patterns import CastVotes, Codes, VotePatterns

Beliefs = NDArray[np.float64]
Predict = Callable[[Codes], Beliefs]

FOLDS = 5
_BELOW = 0.999  # so far below that rounding does not make it a tie


@dataclass(frozen=True)
class DevRows:
    """Labeled rows.

    Attributes:
        votes: d x m codes, as in `VotePatterns.votes`.
        truth: d indices of tags.
    """

    votes: Codes
    truth: NDArray[np.int64]

    @classmethod
    def none(cls, votes: VotePatterns) -> Self:
        """No rows."""
        return cls(np.zeros((0, len(votes.rules)), dtype=np.int16), np.zeros(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.truth)

    def only(self, rows: NDArray[np.bool_]) -> DevRows:
        """The rows of a mask."""
        return DevRows(self.votes[rows], self.truth[rows])


@dataclass(frozen=True)
class HeldOut:
    """A label model without each fold of the dev rows in turn.

    Attributes:
        fold: d, 0 to F - 1, the fold of each dev row.
        predict: F, what the model would say had it not learned from the fold's labels.
        beliefs: d x k, each dev row told without its fold.
    """

    fold: NDArray[np.int64]
    predict: tuple[Predict, ...]
    beliefs: Beliefs

    @classmethod
    def told(cls, predict: Sequence[Predict], fold: NDArray[np.int64], votes: Codes, k: int) -> Self:
        """From the folds' models and the dev rows' d x m votes."""
        beliefs = np.zeros((len(fold), k))
        for f, say in enumerate(predict):
            beliefs[fold == f] = say(votes[fold == f])
        return cls(fold, tuple(predict), beliefs)


class BaseLabelModel(Protocol):
    """A label model for rows of one tag each.

    Attributes:
        learns_from_dev: whether figures on the dev rows need cross-fitting to be honest.
        least_rules: how many rules it needs.
        held_out: of a model that calibrates itself, itself without each fold of the dev rows that `fit` was given;
            else None.
    """

    learns_from_dev: ClassVar[bool] = True
    least_rules: ClassVar[int] = 1
    held_out: HeldOut | None = None

    @abstractmethod
    def fit(self, votes: VotePatterns, dev: DevRows | None = None) -> Self:
        """Learns from the votes of all rows, and from dev rows where they are given."""

    @abstractmethod
    def predict(self, votes: Codes) -> Beliefs:
        """P x k probabilities of the tags; lines sum to 1; of a pattern without a vote they mean nothing."""


def may_win(votes: CastVotes, known: NDArray[np.bool_], ruled: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """P x k, the tags that may be the likeliest of each pattern: those with a vote, and those of which dev rows tell.

    Where votes only say what a row is not, any other tag may be that some rule votes for; if there is none, any other.
    A pattern without a vote may have any.

    Args:
        votes: those cast in P patterns.
        known: k, tags of which there are dev rows.
        ruled: k, tags that some rule votes for.
    """
    k = len(known)
    cast = np.zeros((votes.patterns, 2 * k), dtype=bool)
    cast[votes.line, votes.code] = True
    may = cast[:, :k] | known
    without = np.flatnonzero(~cast[:, :k].any(axis=1))  # a vote for a tag
    ruled_out = cast[without, k:]
    left = ~ruled_out & (ruled | known)
    left = np.where(left.any(axis=1, keepdims=True), left, ~ruled_out)
    may[without] = np.where(left.any(axis=1, keepdims=True), left, True)
    return may


def only_voted(beliefs: Beliefs, may: NDArray[np.bool_]) -> Beliefs:
    """Beliefs in which a tag that may not win (`may_win`) is just below the likeliest of those that may, at most."""
    most = np.where(may, beliefs, 0).max(axis=1, keepdims=True) * _BELOW
    held = np.minimum(beliefs, most)
    np.copyto(held, beliefs, where=may)
    return shares(held)


def tally(votes: CastVotes, k: int) -> NDArray[np.float64]:
    """P x k: how many rules vote for each tag, less those that vote against it, 0 at least."""
    cells = np.bincount(votes.line * (2 * k) + votes.code, minlength=votes.patterns * 2 * k)
    counts = cells.reshape(votes.patterns, 2 * k).astype(np.float64)
    for_tag, against = counts[:, :k], counts[:, k:]
    only_against = (for_tag.sum(axis=1) == 0) & (against.sum(axis=1) > 0)
    # Where rules only say what a row is not, every other tag is as likely as the next.
    for_tag[only_against] = against[only_against] == 0
    return np.maximum(for_tag - np.where(only_against[:, None], 0, against), 0)


def shares(weights: NDArray[np.float64]) -> Beliefs:
    """Lines divided by their sum; a line of zeros becomes uniform."""
    total = weights.sum(axis=1, keepdims=True)
    if (total > 0).all():
        return np.asarray(weights / total)
    return np.where(total > 0, weights / np.where(total > 0, total, 1), 1 / weights.shape[1])


def softmax(logits: NDArray[np.float64]) -> Beliefs:
    """Lines of probabilities, in the place of the n x k logits.

    By hand: SciPy's takes twice the time and three times the memory (50,000 x 50).
    """
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits

"""What each rule is worth to the others: how much worse dev rows are labeled when it is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.labeling.models.base import FOLDS, Probabilities
from kommuna.steps.labeling.models.default_tag import assign_tags, with_default
from kommuna.steps.labeling.models.fitting import fit_label_model
from kommuna.steps.labeling.models.weighted import Weighted
from kommuna.steps.labeling.votes.dev_rows import Dev
from kommuna.steps.labeling.votes.patterns import ABSTAIN, Codes, VotePatterns
from kommuna.steps.statistics import folds

_AT_ONCE = 5_000_000  # votes told at one time: bounds memory


@dataclass(frozen=True)
class Gains:
    """What leaving rules out does to the weighted vote (`Weighted`), whose weights are learned from dev rows alone.

    It stands in for the label model since it can be asked hundreds of times in a second. Each dev row is told by
    weights that were learned without it (five folds).

    Attributes:
        figure: accuracy on dev (a row without a vote has the default tag, or is wrong); micro F1 where rows have
            several tags.
        gain: a line each of what was left out: `figure` less the figure without it, so harm is below zero.
        probabilities: d x k, what the weighted vote of all rules says of the dev rows.
        default: the tag of a row without a vote; None: it is unknown.
    """

    figure: float
    gain: NDArray[np.float64]
    probabilities: Probabilities
    default: int | None = None

    def says(self, dev: Dev, *, several_tags: bool) -> NDArray[np.bool_]:
        """d x k, the tags that the weighted vote gives each dev row; where no rule votes the default tag, or none."""
        return assign_tags(self.probabilities, dev.votes, default=self.default, several_tags=several_tags)


class _Once(Weighted):
    """The weighted vote fitted once: its own held-out folds are of no use here, and five times the work."""

    learns_from_dev = False


def gains(
    dev: Dev,
    left_out: Sequence[Sequence[int]],
    *,
    tags: tuple[str, ...],
    several_tags: bool,
    default: int | None = None,
    seed: int = 0,
) -> Gains:
    """Leaves out rules, one set of them after another.

    Args:
        dev: the dev rows: votes and true tags.
        left_out: sets of rules, by their column.
        tags: every tag.
        several_tags: whether a row may have several tags, or none.
        default: the tag of a row without a vote; None: it is unknown.
        seed: of the folds.
    """
    d, m = dev.votes.shape
    probabilities = np.zeros(dev.truth.shape)
    names = tuple(str(j) for j in range(m))
    fold = folds(d, FOLDS, seed=seed)
    changes = np.zeros((len(left_out), 2), dtype=np.int64)
    total = np.zeros(2, dtype=np.int64)
    for f in range(int(fold.max(initial=-1)) + 1):
        held, rest = np.flatnonzero(fold == f), fold != f
        known = Dev(dev.votes[rest], dev.truth[rest])
        seen = VotePatterns(known.votes, np.ones(len(known), np.int64), np.arange(len(known), dtype=np.int32), tags,
                            names, several_tags, default)  # fmt: skip
        learned = known if len(known) > 1 else None
        told = with_default(fit_label_model(_Once, seen, learned, seed=seed), seen, learned).predict
        votes, truth = dev.votes[held], dev.truth[held]
        probabilities[held] = told(votes)
        before = _counts(probabilities[held], votes, truth, several_tags, default)
        total += before.sum(axis=0)
        for sets, rows, changed in _without(votes, left_out):
            after = _counts(told(changed), changed, truth[rows], several_tags, default)
            np.add.at(changes, sets, after - before[rows])
    without = total + changes
    figure = float(total[0] / max(total[1], 1))
    return Gains(figure, figure - without[:, 0] / np.maximum(without[:, 1], 1), probabilities, default)


def _without(
    votes: Codes, left_out: Sequence[Sequence[int]]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64], Codes]]:
    """The rows that leaving a set of rules out changes, and their votes then: in parts of bounded size."""
    parts: list[tuple[NDArray[np.int64], NDArray[np.int64], Codes]] = []
    sets: list[NDArray[np.int64]] = []
    rows: list[NDArray[np.int64]] = []
    size = max(_AT_ONCE // max(votes.shape[1], 1), 1)

    def close() -> None:
        if not rows:
            return
        which, lines = np.concatenate(sets), np.concatenate(rows)
        changed = votes[lines]
        for s in np.unique(which):
            changed[np.ix_(which == s, list(left_out[s]))] = ABSTAIN
        parts.append((which, lines, changed))
        sets.clear()
        rows.clear()

    for s, columns in enumerate(left_out):
        lines = np.flatnonzero((votes[:, list(columns)] >= 0).any(axis=1))
        sets.append(np.full(len(lines), s))
        rows.append(lines)
        if sum(map(len, rows)) > size:
            close()
    close()
    return parts


def _counts(
    probabilities: Probabilities, votes: Codes, truth: NDArray[np.bool_], several_tags: bool, default: int | None
) -> NDArray[np.int64]:
    """A numerator and a denominator for each row, whose sums' quotient is the figure."""
    says = assign_tags(probabilities, votes, default=default, several_tags=several_tags)
    right = (says & truth).sum(axis=1)
    if several_tags:
        return np.stack([2 * right, says.sum(axis=1) + truth.sum(axis=1)], axis=1)
    return np.stack([right, np.ones(len(right), dtype=np.int64)], axis=1)

"""Ablation of rules: how much worse dev rows are labeled without each rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.labeling.models.base import FOLDS, Probabilities
from kommuna.steps.labeling.models.default_tag import assign_tags, with_default
from kommuna.steps.labeling.models.fitting import fit_label_model
from kommuna.steps.labeling.models.weighted import Weighted
from kommuna.steps.labeling.votes.labeled_votes import LabeledVotes
from kommuna.steps.labeling.votes.patterns import ABSTAIN, Codes, VotePatterns
from kommuna.steps.statistics import folds

_AT_ONCE = 5_000_000  # votes predicted together, which limits memory


@dataclass(frozen=True)
class Gains:
    """The effect of leaving out rules on the weighted vote (`Weighted`), whose weights are learned from dev rows only.

    The weighted vote is used instead of the label model because it predicts hundreds of times per second. Each dev row
    is predicted by weights that were learned without it (five folds).

    Attributes:
        figure: accuracy on dev (a row without a vote has the default tag, or is wrong); micro F1 where rows may have
            several tags.
        gain: for each set of rules, `figure` minus the figure without the set; negative if the rules do harm.
        probabilities: d x k, the probabilities of the dev rows by the weighted vote of all rules.
        default: the index of the default tag, that of a row without a vote; None: such a row is unknown.
    """

    figure: float
    gain: NDArray[np.float64]
    probabilities: Probabilities
    default: int | None = None

    def assigned(self, dev: LabeledVotes, *, multi_label: bool) -> NDArray[np.bool_]:
        """Returns d x k, the tags that the weighted vote assigns; the default tag, or none, where no rule votes.

        Args:
            dev: the dev rows.
            multi_label: whether a row may have several tags.
        """
        return assign_tags(self.probabilities, dev.votes, default=self.default, multi_label=multi_label)


class _WeightedWithoutFolds(Weighted):
    """The weighted vote without its own cross-fit, which is not needed here and takes five times as long."""

    learns_from_dev = False


def gains(
    dev: LabeledVotes,
    left_out: Sequence[Sequence[int]],
    *,
    tags: tuple[str, ...],
    multi_label: bool,
    default: int | None = None,
    seed: int = 0,
) -> Gains:
    """Computes the gains of sets of rules.

    Args:
        dev: the dev rows: votes and true tags.
        left_out: the sets of rules, by their indices.
        tags: all tags.
        multi_label: whether a row may have several tags.
        default: the index of the default tag; None: a row without a vote is unknown.
        seed: seed of the folds.
    """
    d, m = dev.votes.shape
    probabilities = np.zeros(dev.truth.shape)
    names = tuple(str(j) for j in range(m))
    fold = np.empty(d, dtype=np.int64)
    fold[dev.by_content()] = folds(d, FOLDS, seed=seed)
    changes = np.zeros((len(left_out), 2), dtype=np.int64)
    total = np.zeros(2, dtype=np.int64)
    for f in range(int(fold.max(initial=-1)) + 1):
        held, rest = np.flatnonzero(fold == f), fold != f
        known = LabeledVotes(dev.votes[rest], dev.truth[rest])
        seen = VotePatterns(known.votes, np.ones(len(known), np.int64), np.arange(len(known), dtype=np.int32), tags,
                            names, multi_label, default)  # fmt: skip
        learned = known if len(known) > 1 else None
        predict = with_default(fit_label_model(_WeightedWithoutFolds, seen, learned, seed=seed), seen, learned).predict
        votes, truth = dev.votes[held], dev.truth[held]
        probabilities[held] = predict(votes)
        before = _counts(probabilities[held], votes, truth, multi_label, default)
        total += before.sum(axis=0)
        for sets, rows, changed in _without(votes, left_out):
            after = _counts(predict(changed), changed, truth[rows], multi_label, default)
            np.add.at(changes, sets, after - before[rows])
    without = total + changes
    figure = float(total[0] / max(total[1], 1))
    return Gains(figure, figure - without[:, 0] / np.maximum(without[:, 1], 1), probabilities, default)


def _without(
    votes: Codes, left_out: Sequence[Sequence[int]]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64], Codes]]:
    """Returns, in parts of limited size, the sets, the rows that lose votes without the set, and their other votes."""
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
    probabilities: Probabilities, votes: Codes, truth: NDArray[np.bool_], multi_label: bool, default: int | None
) -> NDArray[np.int64]:
    """Returns a numerator and a denominator per row; the figure is the ratio of their sums."""
    assigned = assign_tags(probabilities, votes, default=default, multi_label=multi_label)
    right = (assigned & truth).sum(axis=1)
    if multi_label:
        return np.stack([2 * right, assigned.sum(axis=1) + truth.sum(axis=1)], axis=1)
    return np.stack([right, np.ones(len(right), dtype=np.int64)], axis=1)

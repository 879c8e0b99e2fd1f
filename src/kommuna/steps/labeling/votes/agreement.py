"""Coverage, overlap and conflict of rules, counted from their votes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Agreement:
    """Numbers of rows with votes, with overlapping votes, and with conflicting votes.

    A vote for a tag conflicts with a vote for another tag (unless rows may have several tags) and with a vote against
    its tag. Without votes against tags, the figures equal those of Snorkel's `LFAnalysis`.

    Attributes:
        rows: n, the number of rows.
        covered: rows on which a rule votes.
        overlapping: rows on which at least two rules vote.
        conflicting: rows with a conflict.
        rule_covered: m, rows on which the rule votes.
        rule_overlaps: m, rows on which the rule and another vote.
        rule_conflicts: m, rows on which the rule's vote conflicts with another.
    """

    rows: int
    covered: int
    overlapping: int
    conflicting: int
    rule_covered: Ints
    rule_overlaps: Ints
    rule_conflicts: Ints

    def __add__(self, other: Agreement) -> Agreement:
        """Returns the figures of two tables together."""
        return Agreement(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    def shares(self) -> dict[str, float]:
        """Returns coverage, overlap and conflict as shares of the rows, 0 to 1; 0 if there are no rows."""
        n = max(self.rows, 1)
        return {"coverage": self.covered / n, "overlap": self.overlapping / n, "conflict": self.conflicting / n}


def agreement(votes: NDArray[np.integer[Any]], counts: Ints, *, k: int, multi_label: bool) -> Agreement:
    """Counts coverage, overlaps and conflicts.

    Args:
        votes: P x m codes (-1 abstains, t for tag t, k + t against it).
        counts: P, the number of rows that have the pattern.
        k: the number of tags.
        multi_label: whether votes for different tags are no conflict.
    """
    rows, rules = np.nonzero(votes >= 0)
    codes = votes[rows, rules].astype(np.int64)
    return agreement_of_cast(rows, rules, codes, counts, m=votes.shape[1], k=k, multi_label=multi_label)


def agreement_of_cast(
    rows: Ints, rules: Ints, codes: Ints, counts: Ints, *, m: int, k: int, multi_label: bool
) -> Agreement:
    """Counts coverage, overlaps and conflicts of q votes in coordinate form, without memory for abstentions.

    Args:
        rows: q, the index of the vote's row or pattern, 0 to P - 1.
        rules: q, the index of its rule, 0 to m - 1.
        codes: q, t for tag t, k + t against it.
        counts: P, the number of rows that have the pattern.
        m: the number of rules.
        k: the number of tags.
        multi_label: whether votes for different tags are no conflict.
    """
    size = len(counts)
    votes = np.bincount(rows, minlength=size)
    overlaps = votes[rows] >= 2
    conflicts = np.zeros(len(rows), dtype=np.bool_)
    conflicts[overlaps] = _conflicts(rows[overlaps], codes[overlaps], size, k, multi_label)
    totals, by_rule = [], []
    for chosen in (np.ones(len(rows), dtype=np.bool_), overlaps, conflicts):
        hit = np.zeros(size, dtype=np.bool_)
        hit[rows[chosen]] = True
        totals.append(int(counts[hit].sum()))
        weights = np.bincount(rules[chosen], weights=counts[rows[chosen]], minlength=m)
        by_rule.append(weights.astype(np.int64))
    covered, overlapping, conflicting = totals
    return Agreement(int(counts.sum()), covered, overlapping, conflicting, *by_rule)


def _conflicts(rows: Ints, codes: Ints, size: int, k: int, multi_label: bool) -> NDArray[np.bool_]:
    """Returns whether each vote conflicts with another vote on its row."""
    votes, which, times = np.unique(rows * (2 * k) + codes, return_inverse=True, return_counts=True)
    opposite = rows * (2 * k) + np.where(codes < k, codes + k, codes - k)
    near = np.minimum(np.searchsorted(votes, opposite), len(votes) - 1)
    against: NDArray[np.bool_] = votes[near] == opposite if len(votes) else np.zeros(0, dtype=np.bool_)
    if multi_label:
        return against
    for_tags = np.bincount(rows[codes < k], minlength=size)
    among_tags: NDArray[np.bool_] = (codes < k) & (for_tags[rows] > times[which])
    return against | among_tags

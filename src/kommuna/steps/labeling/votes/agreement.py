"""Coverage, overlap and conflict of rules, from the votes that were cast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Agreement:
    """Rows, of n, on which rules vote (`covered`), vote with others (`overlaps`), and are contradicted (`conflicts`).

    A vote for a tag is contradicted by a vote for another tag (unless rows may have several) and by a vote against
    its tag. Figures of `LFAnalysis` where no rule votes against.
    """

    rows: int
    covered: int
    overlapping: int
    conflicting: int
    rule_covered: Ints
    rule_overlaps: Ints
    rule_conflicts: Ints

    def __add__(self, other: Agreement) -> Agreement:
        """The figures of both tables' rows together."""
        return Agreement(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    def shares(self) -> dict[str, float]:
        """The three figures over rows, 0 to 1; 0 where there are no rows."""
        n = max(self.rows, 1)
        return {"coverage": self.covered / n, "overlap": self.overlapping / n, "conflict": self.conflicting / n}


def agreement(votes: NDArray[np.integer[Any]], counts: Ints, *, k: int, several_tags: bool) -> Agreement:
    """Counts coverage, overlaps and conflicts.

    Args:
        votes: P x m codes (-1 abstains, t for tag t, k + t against it).
        counts: P, rows that have the pattern.
        k: tags.
        several_tags: votes for different tags do not contradict each other.
    """
    rows, rules = np.nonzero(votes >= 0)
    codes = votes[rows, rules].astype(np.int64)
    return agreement_of_cast(rows, rules, codes, counts, m=votes.shape[1], k=k, several_tags=several_tags)


def agreement_of_cast(
    rows: Ints, rules: Ints, codes: Ints, counts: Ints, *, m: int, k: int, several_tags: bool
) -> Agreement:
    """`agreement` of v votes, each a line of three arrays: abstentions need no memory.

    Args:
        rows: v, the vote's row or pattern, 0 to P - 1.
        rules: v, the vote's rule, 0 to m - 1.
        codes: v, t for tag t, k + t against it.
        counts: P, how often the row stands for one.
        m: rules.
        k: tags.
        several_tags: votes for different tags do not contradict each other.
    """
    size = len(counts)
    cast = np.bincount(rows, minlength=size)
    together = cast[rows] >= 2
    contradicted = np.zeros(len(rows), dtype=np.bool_)
    contradicted[together] = _contradicted(rows[together], codes[together], size, k, several_tags)
    totals, by_rule = [], []
    for chosen in (np.ones(len(rows), dtype=np.bool_), together, contradicted):
        hit = np.zeros(size, dtype=np.bool_)
        hit[rows[chosen]] = True
        totals.append(int(counts[hit].sum()))
        weights = np.bincount(rules[chosen], weights=counts[rows[chosen]], minlength=m)
        by_rule.append(weights.astype(np.int64))
    covered, overlapping, conflicting = totals
    return Agreement(int(counts.sum()), covered, overlapping, conflicting, *by_rule)


def _contradicted(rows: Ints, codes: Ints, size: int, k: int, several_tags: bool) -> NDArray[np.bool_]:
    """Whether each vote is contradicted in its row."""
    said, place, times = np.unique(rows * (2 * k) + codes, return_inverse=True, return_counts=True)
    opposite = rows * (2 * k) + np.where(codes < k, codes + k, codes - k)
    near = np.minimum(np.searchsorted(said, opposite), len(said) - 1)
    against: NDArray[np.bool_] = said[near] == opposite if len(said) else np.zeros(0, dtype=np.bool_)
    if several_tags:
        return against
    for_tags = np.bincount(rows[codes < k], minlength=size)
    among_tags: NDArray[np.bool_] = (codes < k) & (for_tags[rows] > times[place])
    return against | among_tags

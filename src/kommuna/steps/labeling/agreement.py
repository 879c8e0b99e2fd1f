"""Coverage, overlap and conflict of rules, from distinct vote patterns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_CHUNK = 32_768  # patterns at a time, so that the counts by tag stay small


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
    rule_covered: NDArray[np.int64]
    rule_overlaps: NDArray[np.int64]
    rule_conflicts: NDArray[np.int64]

    def shares(self) -> dict[str, float]:
        """The three figures over rows, 0 to 1; 0 where there are no rows."""
        n = max(self.rows, 1)
        return {"coverage": self.covered / n, "overlap": self.overlapping / n, "conflict": self.conflicting / n}


def agreement(votes: NDArray[np.int16], counts: NDArray[np.int64], *, k: int, several_tags: bool) -> Agreement:
    """Counts who agrees with whom.

    Args:
        votes: P x m codes (-1 abstains, t for tag t, k + t against it).
        counts: P, rows that have the pattern.
        k: tags.
        several_tags: votes for different tags do not contradict each other.
    """
    m = votes.shape[1]
    totals = np.zeros(3, dtype=np.int64)
    by_rule = np.zeros((3, m), dtype=np.int64)
    for start in range(0, len(votes), _CHUNK):
        codes, weight = votes[start : start + _CHUNK], counts[start : start + _CHUNK]
        voted = codes >= 0
        together = voted & (voted.sum(axis=1) >= 2)[:, None]
        contradicted = voted & _contradicted(codes, k, several_tags)
        for place, cells in enumerate((voted, together, contradicted)):
            by_rule[place] += weight @ cells
            totals[place] += weight[cells.any(axis=1)].sum()
    covered, overlapping, conflicting = (int(total) for total in totals)
    return Agreement(int(counts.sum()), covered, overlapping, conflicting, *by_rule)


def _contradicted(codes: NDArray[np.int16], k: int, several_tags: bool) -> NDArray[np.bool_]:
    lines = np.arange(len(codes))[:, None]
    said = np.zeros((len(codes), 2 * k + 1), dtype=np.int16)  # the last column takes the abstentions
    np.add.at(said, (lines, codes), 1)
    opposite = np.where(codes < k, codes + k, codes - k)
    against: NDArray[np.bool_] = np.take_along_axis(said, np.where(codes < 0, 2 * k, opposite), axis=1) > 0
    if several_tags:
        return against
    others = said[:, :k].sum(axis=1, keepdims=True) - np.take_along_axis(
        said, codes.astype(np.int64) % (2 * k + 1), axis=1
    )
    among_tags: NDArray[np.bool_] = (codes < k) & (others > 0)
    return against | among_tags

"""The outcomes that a naive Bayes label model counts: which rule voted what."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from kommuna.steps.cores import side_by_side
from kommuna.steps.labeling.votes.patterns import CastVotes, Codes

_COPY_ROWS, _COPY_PATTERNS = 10, 3


@dataclass(frozen=True)
class Outcomes:
    """f outcomes of m rules.

    A rule that only ever casts one vote has one outcome, which happens or does not (`one_sided`): its abstentions are
    evidence too. A rule that casts several votes has one outcome for each, and its abstentions are not used.

    One-sided rules that vote on exactly the same rows share one event, and count as one rule, whatever their tags
    (`event`). That takes `_COPY_ROWS` rows in `_COPY_PATTERNS` patterns; on fewer rows it may be chance.

    Attributes:
        of: m x (2k + 1), the outcome of rule j's vote v at `[j, v]`; -1 where there is none (last column: abstains).
        owners: f x k, the tags that the outcome is a vote for.
        one_sided: f, whether the outcome is its rule's only one.
        rule: f, the rule of each outcome.
        rows: f, the number of rows on which each happened, dev rows included.
        all_rows: the number of rows, dev rows included.
        event: f, the same number where outcomes happen on exactly the same rows.
    """

    of: NDArray[np.int32]
    owners: NDArray[np.bool_]
    one_sided: NDArray[np.bool_]
    rule: NDArray[np.int32]
    rows: NDArray[np.float64]
    event: NDArray[np.int64]
    all_rows: float

    def __len__(self) -> int:
        return len(self.rule)

    def indicators(self, votes: CastVotes) -> sparse.csr_array:
        """Returns the P x f matrix that is 1 where the outcome happened."""
        outcome = self.of[votes.rule, votes.code]
        known = outcome >= 0  # votes that did not occur in fitting are ignored
        ones = np.ones(int(known.sum()))
        matrix = sparse.csr_array((ones, (votes.line[known], outcome[known])), shape=(votes.patterns, len(self)))
        matrix.sum_duplicates()
        return matrix

    @property
    def voted_tags(self) -> NDArray[np.bool_]:
        """k, the tags that some rule votes for."""
        for_one = self.owners.sum(axis=1) == 1 if self.owners.shape[1] > 2 else np.ones(len(self), dtype=bool)
        return np.asarray(self.owners[for_one].any(axis=0))

    @cached_property
    def alike(self) -> NDArray[np.int64]:
        """f, the number of outcomes of the same event, including itself."""
        return np.asarray(np.bincount(self.event)[self.event]) if len(self) else self.event

    @cached_property
    def event_owners(self) -> NDArray[np.bool_]:
        """f x k, the tags of the outcome and of the others of the same event."""
        owners = np.zeros_like(self.owners)
        np.logical_or.at(owners, self.event, self.owners)
        return np.asarray(owners[self.event])

    @cached_property
    def owner_cells(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The cells of `owners` that are true: outcomes, rising, and tags."""
        outcome, tag = np.nonzero(self.owners)
        return outcome, tag

    def sum_over_owners(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums f x k values over each outcome's own tags; f."""
        outcome, tag = self.owner_cells
        return np.bincount(outcome, weights=values[outcome, tag], minlength=len(self)).astype(np.float64)

    def least_of_owners(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the smallest of f x k values over each outcome's own tags; f."""
        if not len(self):
            return np.zeros(0)
        outcome, tag = self.owner_cells
        return np.asarray(np.minimum.reduceat(values[outcome, tag], np.flatnonzero(np.diff(outcome, prepend=-1))))

    def by_rule(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums f x k weights over the outcomes of the same rule; f x k."""
        if not len(self):
            return weights
        first = np.flatnonzero(np.diff(self.rule, prepend=-1))  # outcomes are in the rules' order
        sums = np.add.reduceat(weights, first, axis=0)
        return np.asarray(np.repeat(sums, np.diff(first, append=len(self)), axis=0))


def outcomes(votes: Codes, k: int, dev_votes: Codes | None = None, counts: NDArray[np.int64] | None = None) -> Outcomes:
    """Finds the outcomes in the votes of m rules.

    Args:
        votes: P x m distinct votes.
        k: the number of tags.
        dev_votes: d x m votes on dev rows, if there are any.
        counts: P, the number of rows with each pattern; 1 if left out.
    """
    weight = np.ones(len(votes)) if counts is None else counts.astype(np.float64)
    of = np.full((votes.shape[1], 2 * k + 1), -1, dtype=np.int32)
    owners: list[NDArray[np.bool_]] = []
    one_sided: list[bool] = []
    rule: list[int] = []
    rows: list[float] = []
    events: dict[bytes, list[int]] = {}
    for j, (cast, voting) in enumerate(side_by_side(lambda column: _cast(column, weight, 2 * k), votes.T)):
        if dev_votes is not None:
            cast = cast + np.bincount(dev_votes[dev_votes[:, j] >= 0, j], minlength=2 * k)
        values = np.flatnonzero(cast)
        for value in values:
            of[j, value] = len(owners)
            owners.append(np.arange(k) == value if value < k else np.arange(k) != value - k)
            one_sided.append(len(values) == 1)
            rule.append(j)
            rows.append(float(cast[value]))
        enough_rows = len(values) == 1 and rows[-1] >= _COPY_ROWS and voting >= _COPY_PATTERNS
        if enough_rows:
            rows_voted_on = _rows_voted_on(votes[:, j], None if dev_votes is None else dev_votes[:, j])
            events.setdefault(rows_voted_on, []).append(len(owners) - 1)
    event = np.arange(len(owners))
    for same in events.values():
        event[same] = same[0]
    return Outcomes(
        of,
        np.array(owners, dtype=np.bool_).reshape(-1, k),
        np.array(one_sided, dtype=bool),
        np.array(rule, dtype=np.int32),
        np.array(rows, dtype=np.float64),
        event,
        float(weight.sum() + (0 if dev_votes is None else len(dev_votes))),
    )


def _cast(votes: Codes, weight: NDArray[np.float64], codes: int) -> tuple[NDArray[np.float64], int]:
    """Counts the rows with each code among a rule's votes, and the patterns on which it votes."""
    voting = np.flatnonzero(votes >= 0)
    cast = np.bincount(votes[voting], weights=weight[voting], minlength=codes)
    return np.asarray(cast, dtype=np.float64), len(voting)


def _rows_voted_on(votes: Codes, dev_votes: Codes | None) -> bytes:
    own = np.packbits(votes >= 0).tobytes()
    return own if dev_votes is None else own + np.packbits(dev_votes >= 0).tobytes()

"""The majority vote."""

from __future__ import annotations

from typing import ClassVar, Self

from kommuna.steps.labeling.models.base import BaseLabelModel, DevRows, Probabilities, count_votes, normalize_rows
from kommuna.steps.labeling.votes.patterns import CastVotes, Codes, VotePatterns


class Majority(BaseLabelModel):
    """Each rule has one vote, and a tag's probability is its share of them. The first tag in `tags` wins a tie.

    A vote against a tag takes one vote from it. Where all votes are against tags, the other tags are equally likely.
    """

    learns_from_dev: ClassVar[bool] = False

    def fit(self, votes: VotePatterns, dev: DevRows | None = None) -> Self:
        """Stores the number of tags; there is nothing else to learn."""
        self._k = len(votes.tags)
        return self

    def predict(self, votes: Codes) -> Probabilities:
        """Returns P x k probabilities; see `BaseLabelModel.predict`."""
        return normalize_rows(count_votes(CastVotes.of(votes), self._k))

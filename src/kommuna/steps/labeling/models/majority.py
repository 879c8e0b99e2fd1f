"""The majority vote."""

from __future__ import annotations

from typing import ClassVar, Self

from kommuna.steps.labeling.models.base import BaseLabelModel, Beliefs, DevRows, shares, tally
from kommuna.steps.labeling.votes.patterns import CastVotes, Codes, VotePatterns


class Majority(BaseLabelModel):
    """Each rule has one vote; a tag's probability is its share of them. Of equal tags the first in `tags` wins.

    A vote against a tag takes one vote from it; where rules only vote against, the other tags share the belief.
    """

    learns_from_dev: ClassVar[bool] = False

    def fit(self, votes: VotePatterns, dev: DevRows | None = None) -> Self:
        """Nothing is learned but the number of tags."""
        self._k = len(votes.tags)
        return self

    def predict(self, votes: Codes) -> Beliefs:
        return shares(tally(CastVotes.of(votes), self._k))

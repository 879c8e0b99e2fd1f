"""Dawid and Skene's model by EM, on distinct vote patterns."""

from __future__ import annotations

from typing import Self

import numpy as np

from kommuna.errors import SpecError
from kommuna.steps.labeling.models.base import (
    BaseLabelModel,
    DevRows,
    Probabilities,
    candidate_tags,
    count_votes,
    limit_to_candidates,
    normalize_rows,
    softmax,
)  # fmt: skip
from kommuna.steps.labeling.models.naive_bayes import LinearLogits, NaiveBayes, OutcomeData
from kommuna.steps.labeling.votes.patterns import CastVotes, Codes, VotePatterns

COPY = 0.5  # excess correlation from which two rules count as near copies
_SMALLEST = 1e-10
_WITH_DEV = 5  # EM steps, at most, with enough dev rows


class DawidSkene(BaseLabelModel):
    """Dawid and Skene's model: rules err independently, given the row's tag.

    (Dawid & Skene 1979, "Maximum likelihood estimation of observer error-rates using the EM algorithm", Applied
    Statistics 28.)

    With ``prior_rows=0`` it is the published algorithm: EM starts from the shares of votes, each rule has a confusion
    matrix, abstentions are ignored, and nothing is smoothed. It needs rules that vote for several tags; a rule that
    only ever casts one vote has no effect.

    Otherwise it is `NaiveBayes`, which uses the abstentions of rules that vote for one tag, has a prior, and learns
    from dev rows. A tag without a vote on a row and without dev rows is never the likeliest.

    Args:
        iterations: EM steps at most, 1 or more. With as many dev rows as tags at most five are taken: more of
            them drift away from the dev rows.
        prior_rows: weight of the prior, in rows of a tag.
        prior_share: its additional weight without dev rows, as a share of a tag's rows.

    Raises:
        SpecError: `iterations` is below 1.
    """

    def __init__(self, *, iterations: int = 50, prior_rows: float = 1.0, prior_share: float = 0.3) -> None:
        if iterations < 1:
            raise SpecError(
                f"the label model 'dawid_skene' needs at least one iteration, not {iterations}",
                fix="leave `iterations` out, or give a number above 0",
            )
        self._iterations = iterations
        self._prior_rows = prior_rows
        self._prior_share = prior_share

    def fit(self, votes: VotePatterns, dev: DevRows | None = None) -> Self:
        """Fits the model; fewer dev rows than tags are used, but do not set the class prior."""
        self._k = len(votes.tags)
        data = OutcomeData.of(votes, DevRows.none(votes) if dev is None else dev)
        self._outcomes, self._known = data.outcomes, np.asarray(data.truth.any(axis=0))
        if self._prior_rows == 0:
            self._opinion = _published(
                data, normalize_rows(count_votes(CastVotes.of(votes.votes), self._k)), self._iterations
            )
            return self
        model = NaiveBayes(
            iterations=min(self._iterations, _WITH_DEV) if data.enough_dev else self._iterations,
            prior_rows=self._prior_rows,
            prior_share=self._prior_share,
            doubt=1.0,
            doubted_from=COPY,
        )
        self._opinion = model.fit(data).opinion
        return self

    def predict(self, votes: Codes) -> Probabilities:
        """Returns P x k probabilities; see `BaseLabelModel.predict`."""
        cast = CastVotes.of(votes)
        probabilities = softmax(self._opinion.logits(self._outcomes.indicators(cast)))
        return (
            probabilities
            if self._prior_rows == 0
            else limit_to_candidates(probabilities, candidate_tags(cast, self._known, self._outcomes.voted_tags))
        )


def _published(data: OutcomeData, posterior: Probabilities, iterations: int) -> LinearLogits:
    """Dawid and Skene's formulas 2.3 to 2.5; a dev row counts with its true tag."""
    tags, dev_counts = data.truth.sum(axis=0), data.dev_indicators.T @ data.truth
    for _ in range(iterations):
        weighted = posterior * data.covered_counts[:, None]
        cast = data.indicators.T @ weighted + dev_counts
        theta = cast / np.maximum(data.outcomes.by_rule(cast), _SMALLEST)
        rows = weighted.sum(axis=0) + tags
        prior = rows / max(rows.sum(), 1.0)
        opinion = LinearLogits(np.log(np.maximum(theta, _SMALLEST)), np.log(np.maximum(prior, _SMALLEST)))
        posterior = softmax(opinion.logits(data.indicators))
    return opinion

"""Dawid and Skene's model by EM, on distinct vote patterns."""

from __future__ import annotations

from typing import Self

import numpy as np

from kommuna.errors import SpecError
from kommuna.steps.labeling.models.base import (
    BaseLabelModel,
    Beliefs,
    DevRows,
    may_win,
    only_voted,
    shares,
    softmax,
    tally,
)  # fmt: skip
from kommuna.steps.labeling.models.naive_bayes import Evidence, Linear, NaiveBayes
from kommuna.steps.labeling.votes.patterns import CastVotes, Codes, VotePatterns

COPY = 0.5  # excess correlation from which two rules are taken for near copies
_SMALLEST = 1e-10
_WITH_DEV = 5  # EM steps


class DawidSkene(BaseLabelModel):
    """Rules as witnesses that err independently, given the row's tag (Dawid & Skene 1979, "Maximum likelihood
    estimation of observer error-rates using the EM algorithm", Applied Statistics 28).

    With ``prior_rows=0`` it is the published algorithm: EM from the shares of votes, each rule with a confusion matrix
    of its votes, silence unheard, nothing smoothed. It needs rules that vote for several tags; of a rule that only ever
    casts one vote it learns nothing.

    Else it is `NaiveBayes`, which hears the silence of rules that vote for one tag, is held to the votes by a prior,
    and learns from dev rows. A tag that nobody votes for and of which no dev row tells is never the likeliest.

    Args:
        iterations: EM steps at most, 1 or more. With as many dev rows as tags it takes five at most: run on, it drifts
            from them.
        prior_rows: weight of the prior, in rows of a tag.
        prior_share: its further weight without dev rows, as a share of a tag's rows.
    Raises:
        SpecError: no iterations.
    """

    def __init__(self, *, iterations: int = 50, prior_rows: float = 1.0, prior_share: float = 0.3) -> None:
        if iterations < 1:
            raise SpecError(
                f"the label model 'dawid_skene' needs one iteration at least, not {iterations}",
                fix="leave `iterations` out, or give a number above 0",
            )
        self._iterations = iterations
        self._prior_rows = prior_rows
        self._prior_share = prior_share

    def fit(self, votes: VotePatterns, dev: DevRows | None = None) -> Self:
        """Fits on all rows. Fewer dev rows than tags are evidence, but do not set the class prior."""
        self._k = len(votes.tags)
        seen = Evidence.of(votes, DevRows.none(votes) if dev is None else dev)
        self._outcomes, self._known = seen.outcomes, np.asarray(seen.truth.any(axis=0))
        if self._prior_rows == 0:
            self._opinion = _published(seen, shares(tally(CastVotes.of(votes.votes), self._k)), self._iterations)
            return self
        model = NaiveBayes(
            iterations=min(self._iterations, _WITH_DEV) if len(seen.truth) >= self._k else self._iterations,
            prior_rows=self._prior_rows,
            prior_share=self._prior_share,
            doubt=1.0,
            doubted_from=COPY,
        )
        self._opinion = model.fit(seen).opinion
        return self

    def predict(self, votes: Codes) -> Beliefs:
        cast = CastVotes.of(votes)
        beliefs = softmax(self._opinion.logits(self._outcomes.happened(cast)))
        return (
            beliefs if self._prior_rows == 0 else only_voted(beliefs, may_win(cast, self._known, self._outcomes.ruled))
        )


def _published(seen: Evidence, belief: Beliefs, iterations: int) -> Linear:
    """Dawid and Skene's formulas 2.3 to 2.5; dev rows are rows whose tag is known."""
    tags, dev_counts = seen.truth.sum(axis=0), seen.dev.T @ seen.truth
    for _ in range(iterations):
        weighted = belief * seen.covered[:, None]
        cast = seen.happened.T @ weighted + dev_counts
        theta = cast / np.maximum(seen.outcomes.by_rule(cast), _SMALLEST)
        rows = weighted.sum(axis=0) + tags
        prior = rows / max(rows.sum(), 1.0)
        opinion = Linear(np.log(np.maximum(theta, _SMALLEST)), np.log(np.maximum(prior, _SMALLEST)))
        belief = softmax(opinion.logits(seen.happened))
    return opinion

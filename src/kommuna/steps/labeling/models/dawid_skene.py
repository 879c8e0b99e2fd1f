"""Dawid and Skene's model by EM, on distinct vote patterns."""

from __future__ import annotations

from typing import Self

import numpy as np
from scipy.special import softmax

from kommuna.errors import SpecError
from kommuna.steps.labeling.models.base import BaseLabelModel, Beliefs, DevRows, may_win, only_voted
from kommuna.steps.labeling.models.naive_bayes import Evidence, NaiveBayes
from kommuna.steps.labeling.patterns import CastVotes, Codes, VotePatterns

COPY = 0.5  # excess correlation from which two rules are taken for near copies
_WITH_DEV = 5  # EM steps


class DawidSkene(BaseLabelModel):
    """Rules as witnesses that err independently, given the row's tag (Dawid & Skene 1979, "Maximum likelihood
    estimation of observer error-rates using the EM algorithm", Applied Statistics 28).

    It is `NaiveBayes` run to the end: it hears the silence of rules that vote for one tag, is held to the votes by a
    prior, and learns from dev rows. The published algorithm, which does neither, learns nothing of a rule that only
    ever casts one vote. A tag that nobody votes for and of which no dev row tells is never the likeliest.

    Args:
        iterations: EM steps at most, 1 or more. With as many dev rows as tags it takes five at most: run on, it drifts
            from them.
    Raises:
        SpecError: no iterations.
    """

    def __init__(self, *, iterations: int = 50) -> None:
        if iterations < 1:
            raise SpecError(
                f"the label model 'dawid_skene' needs one iteration at least, not {iterations}",
                mend="leave `iterations` out, or give a number above 0",
            )
        self._iterations = iterations

    def fit(self, votes: VotePatterns, dev: DevRows | None = None) -> Self:
        """Fits on all rows. Fewer dev rows than tags are evidence, but do not set the class prior."""
        seen = Evidence.of(votes, DevRows.none(votes) if dev is None else dev)
        self._outcomes, self._known = seen.outcomes, np.asarray(seen.truth.any(axis=0))
        steps = min(self._iterations, _WITH_DEV) if len(seen.truth) >= len(votes.tags) else self._iterations
        self._opinion = NaiveBayes(iterations=steps, doubt=1.0, doubted_from=COPY).fit(seen).opinion
        return self

    def predict(self, votes: Codes) -> Beliefs:
        cast = CastVotes.of(votes)
        beliefs = softmax(self._opinion.logits(self._outcomes.happened(cast)), axis=1)
        return only_voted(beliefs, may_win(cast, self._known, self._outcomes.ruled))

"""On what terms Snorkel's model works, the library's own and the fast one alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kommuna.errors import RulesError
from kommuna.steps.labeling.models.base import DevRows
from kommuna.steps.labeling.votes.patterns import VotePatterns

LEAST_RULES = 3


def check_votes(votes: VotePatterns, model: str) -> None:
    """Refuses votes that the model cannot take.

    Raises:
        RulesError: fewer than three rules, or a rule votes against a tag.
    """
    m, k = len(votes.rules), len(votes.tags)
    if m < LEAST_RULES:
        raise RulesError(
            f"the label model '{model}' needs three rules at least, there {'is' if m == 1 else 'are'} {m}",
            fix="add rules, or take model='kommuna'",
        )
    if (votes.votes >= k).any():
        j = int(np.flatnonzero((votes.votes >= k).any(axis=0))[0])
        raise RulesError(
            f"the label model '{model}' has no votes against a tag, as rule '{votes.rules[j]}' casts",
            fix="take model='kommuna', or leave such rules out",
        )


def class_balance(dev: DevRows | None, k: int) -> NDArray[np.float64] | None:
    """k, the tags' shares among the dev rows, one row a tag added; None without dev rows: every tag alike."""
    if dev is None or not len(dev):
        return None
    return np.asarray((np.bincount(dev.truth, minlength=k) + 1) / (len(dev) + k))

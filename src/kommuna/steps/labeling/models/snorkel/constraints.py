"""Requirements of Snorkel's model, shared by `snorkel` and `snorkel_fast`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kommuna.errors import RulesError
from kommuna.steps.labeling.models.base import DevRows
from kommuna.steps.labeling.votes.patterns import VotePatterns

MIN_RULES = 3


def check_votes(votes: VotePatterns, model: str) -> None:
    """Checks that the model can be fitted on the votes.

    Args:
        votes: the vote patterns.
        model: the label model's name, for the message.

    Raises:
        RulesError: fewer than three rules, or a rule votes against a tag.
    """
    m, k = len(votes.rules), len(votes.tags)
    if m < MIN_RULES:
        raise RulesError(
            f"the label model '{model}' needs at least three rules, but there {'is' if m == 1 else 'are'} {m}",
            fix="add rules, or use model='kommuna'",
        )
    if (votes.votes >= k).any():
        j = int(np.flatnonzero((votes.votes >= k).any(axis=0))[0])
        raise RulesError(
            f"the label model '{model}' does not support votes against a tag, such as those of rule '{votes.rules[j]}'",
            fix="use model='kommuna', or remove such rules",
        )


def class_balance(dev: DevRows | None, k: int) -> NDArray[np.float64] | None:
    """Returns the k tags' shares among the dev rows, with one row added per tag; None without dev rows.

    Args:
        dev: the dev rows, if there are any.
        k: the number of tags.
    """
    if dev is None or not len(dev):
        return None
    return np.asarray((np.bincount(dev.truth, minlength=k) + 1) / (len(dev) + k))

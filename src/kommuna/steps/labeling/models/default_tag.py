"""The default tag (`otherwise` in a rules file): what is said of rows on which no rule votes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.labeling.models.base import Beliefs, HeldOut, Predict
from kommuna.steps.labeling.models.fitting import Fitted
from kommuna.steps.labeling.models.given_tags import voted_for
from kommuna.steps.labeling.votes.dev_rows import Dev
from kommuna.steps.labeling.votes.patterns import Codes, VotePatterns, decided

Mask = NDArray[np.bool_]

PRESUMED = 0.7  # how likely the default tag is where no dev row tells: as a rule that no dev row has judged
PRESUMED_ROWS = 4.0  # dev rows that this weighs
_ROUNDING = 1e-9


def with_default(fit: Fitted, patterns: VotePatterns, dev: Dev | None) -> Fitted:
    """The model that knows the default tag's probabilities on rows without a vote (`shares_left`).

    Dev rows that are left to the default tag are counted without the fold that is told.
    """
    if patterns.default is None:
        return fit
    none = np.zeros((0, len(patterns.tags)), dtype=np.bool_)
    left = none if dev is None else dev.truth[~decided(dev.votes, len(patterns.tags), patterns.default)]
    shares = shares_left(left, patterns.default, several_tags=patterns.several_tags)
    predict = partial(_told, fit.predict, shares, patterns.default)
    if dev is None or fit.held_out is None:
        return replace(fit, predict=predict)
    apart: list[Predict] = []
    undecided = ~decided(dev.votes, len(patterns.tags), patterns.default)
    for f, say in enumerate(fit.held_out.predict):
        others = dev.truth[undecided & (fit.held_out.fold != f)]
        apart_shares = shares_left(others, patterns.default, several_tags=patterns.several_tags)
        apart.append(partial(_told, say, apart_shares, patterns.default))
    return replace(fit, predict=predict, held_out=HeldOut.told(apart, fit.held_out.fold, dev.votes, len(patterns.tags)))


def shares_left(truth: Mask, default: int, *, several_tags: bool) -> NDArray[np.float64]:
    """The probabilities of the k tags on a row without a vote.

    Of ``u`` dev rows without a vote ``c`` have the tag; its probability is ``(c + 4 b) / (u + 4)``. ``b`` is .7 for the
    default tag; the others share the rest evenly, or have 0 where a row may have several tags. Without such dev rows it
    is ``b``.

    Args:
        truth: u x k, the tags of those dev rows.
        default: the default tag.
    """
    k = truth.shape[1]
    presumed = np.full(k, 0.0 if several_tags else (1 - PRESUMED) / max(k - 1, 1))
    presumed[default] = PRESUMED if several_tags or k > 1 else 1.0
    return np.asarray((truth.sum(axis=0) + PRESUMED_ROWS * presumed) / (len(truth) + PRESUMED_ROWS))


def given(
    beliefs: Beliefs,
    votes: Codes,
    *,
    default: int | None,
    several_tags: bool,
    least: NDArray[np.float64] | None = None,
) -> Mask:
    """The tags that n rows are given, n x k.

    A row that its votes decide (`decided`) has the likeliest tag, or where rows may have several tags each that is
    likelier than not; any other row has the default tag, or none.

    Args:
        beliefs: n x k probabilities.
        votes: n x m codes.
        default: the default tag, if there is one.
        least: k, where rows may have several tags: the probability from which a tag with a vote is given
            (`least_given`); None: one half.
    """
    if several_tags:
        said = np.asarray(beliefs >= 0.5)
        if least is not None:
            said |= voted_for(votes, len(least)) & (beliefs >= least - _ROUNDING)
    else:
        said = np.zeros(beliefs.shape, dtype=np.bool_)
        said[np.arange(len(beliefs)), beliefs.argmax(axis=1)] = True
    covered = decided(votes, beliefs.shape[1], default)
    said[~covered] = False
    if default is not None:
        said[~covered, default] = True
    return said


def confidence(beliefs: Beliefs, said: Mask) -> NDArray[np.float64]:
    """How sure n rows' tags are: the probability of the least certain yes or no."""
    return np.asarray(np.where(said, beliefs, 1 - beliefs).min(axis=1))


def _told(predict: Predict, shares: NDArray[np.float64], default: int, votes: Codes) -> Beliefs:
    covered = decided(votes, len(shares), default)
    return np.where(covered[:, None], predict(votes), shares)

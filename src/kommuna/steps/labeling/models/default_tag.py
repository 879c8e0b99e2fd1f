"""The default tag (`otherwise` in a rules file): probabilities and tags of rows on which no rule votes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.labeling.models.base import HeldOut, Predict, Probabilities
from kommuna.steps.labeling.models.fitting import FittedLabelModel
from kommuna.steps.labeling.models.tag_thresholds import voted_for
from kommuna.steps.labeling.votes.labeled_votes import LabeledVotes
from kommuna.steps.labeling.votes.patterns import Codes, VotePatterns, decided

Mask = NDArray[np.bool_]

DEFAULT_TAG_SHARE = 0.7  # prior share of the default tag; the same as the precision of a rule without dev votes
PRIOR_ROWS = 4.0  # weight of the prior share, in dev rows
_ROUNDING = 1e-9


def with_default(fit: FittedLabelModel, patterns: VotePatterns, dev: LabeledVotes | None) -> FittedLabelModel:
    """Returns the model with the default tag's probabilities on rows without a vote (`undecided_shares`).

    The cross-fit counts the dev rows without a vote outside the fold.

    Args:
        fit: the fitted label model.
        patterns: the votes that it was fitted on, with the default tag.
        dev: the dev rows, if there are any.
    """
    if patterns.default is None:
        return fit
    k, default = len(patterns.tags), patterns.default
    undecided = None if dev is None else ~decided(dev.votes, k, default)
    truth = np.zeros((0, k), dtype=np.bool_) if dev is None else dev.truth[undecided]
    shares = undecided_shares(truth, default, multi_label=patterns.multi_label)
    predict = partial(_with_shares, fit.predict, shares, default)
    if dev is None or fit.held_out is None:
        return replace(fit, predict=predict)
    predict_by_fold: list[Predict] = []
    for f, predict_fold in enumerate(fit.held_out.predict):
        truth = dev.truth[undecided & (fit.held_out.fold != f)]
        fold_shares = undecided_shares(truth, default, multi_label=patterns.multi_label)
        predict_by_fold.append(partial(_with_shares, predict_fold, fold_shares, default))
    held_out = HeldOut.predicted(predict_by_fold, fit.held_out.fold, dev.votes, k)
    return replace(fit, predict=predict, held_out=held_out)


def undecided_shares(truth: Mask, default: int, *, multi_label: bool) -> NDArray[np.float64]:
    """Returns the probabilities of the k tags on a row without a vote.

    Of ``u`` dev rows without a vote ``c`` have the tag; its probability is ``(c + 4 b) / (u + 4)``. The prior ``b`` is
    .7 for the default tag. The other tags share the rest evenly, or have 0 where a row may have several tags. Without
    such dev rows the probability is ``b``.

    Args:
        truth: u x k, the tags of those dev rows.
        default: the index of the default tag.
        multi_label: whether a row may have several tags.
    """
    k = truth.shape[1]
    prior = np.full(k, 0.0 if multi_label else (1 - DEFAULT_TAG_SHARE) / max(k - 1, 1))
    prior[default] = DEFAULT_TAG_SHARE if multi_label or k > 1 else 1.0
    return np.asarray((truth.sum(axis=0) + PRIOR_ROWS * prior) / (len(truth) + PRIOR_ROWS))


def assign_tags(
    probabilities: Probabilities,
    votes: Codes,
    *,
    default: int | None,
    multi_label: bool,
    thresholds: NDArray[np.float64] | None = None,
) -> Mask:
    """Returns the tags assigned to n rows, n x k.

    A row with a deciding vote (`decided`) gets its likeliest tag, or where rows may have several tags each tag that is
    likelier than not. Any other row gets the default tag, or none.

    Args:
        probabilities: n x k.
        votes: n x m codes.
        default: the index of the default tag, if there is one.
        multi_label: whether a row may have several tags.
        thresholds: k, where rows may have several tags: the probability from which a tag with a vote is assigned
            (`f1_thresholds`); None means one half.
    """
    if multi_label:
        assigned = np.asarray(probabilities >= 0.5)
        if thresholds is not None:
            assigned |= voted_for(votes, len(thresholds)) & (probabilities >= thresholds - _ROUNDING)
    else:
        assigned = np.zeros(probabilities.shape, dtype=np.bool_)
        assigned[np.arange(len(probabilities)), likeliest_tags(probabilities, votes, default=default)] = True
    covered = decided(votes, probabilities.shape[1], default)
    assigned[~covered] = False
    if default is not None:
        assigned[~covered, default] = True
    return assigned


def likeliest_tags(probabilities: Probabilities, votes: Codes, *, default: int | None) -> NDArray[np.intp]:
    """Returns the tag of each of n rows that have one tag: the likeliest, or the default tag without a deciding vote.

    Args:
        probabilities: n x k.
        votes: n x m codes.
        default: the index of the default tag, if there is one.
    """
    tags: NDArray[np.intp] = probabilities.argmax(axis=1)
    if default is not None:
        tags[~decided(votes, probabilities.shape[1], default)] = default
    return tags


def confidence(probabilities: Probabilities, assigned: Mask) -> NDArray[np.float64]:
    """Returns the confidence of n rows: the smallest probability that a tag is assigned, or not assigned, rightly.

    Args:
        probabilities: n x k.
        assigned: n x k, the assigned tags.
    """
    return np.asarray(np.where(assigned, probabilities, 1 - probabilities).min(axis=1))


def _with_shares(predict: Predict, shares: NDArray[np.float64], default: int, votes: Codes) -> Probabilities:
    covered = decided(votes, len(shares), default)
    return np.where(covered[:, None], predict(votes), shares)

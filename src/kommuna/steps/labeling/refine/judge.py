"""Judges a list of rules: the label model on their votes, and macro F1 on dev rows that it did not learn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.labeling.models.default_tag import assign_tags, with_default
from kommuna.steps.labeling.models.fitting import fit_label_model
from kommuna.steps.labeling.models.registry import MODELS, Settings
from kommuna.steps.labeling.refine.data import Field
from kommuna.steps.labeling.votes.dev_rows import Dev
from kommuna.steps.labeling.votes.patterns import ABSTAIN, Codes, VotePatterns, distinct
from kommuna.steps.statistics import TagCounts, bootstrap, macro_f1

_DRAWS = 200  # of the bootstrap

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Judgement:
    """How rules do together.

    Attributes:
        told: d x k, the tags that each dev row is given without its label; to a row without a vote the default tag, or
            none.
        probabilities: d x k, their probabilities; on rows without a vote the tags' shares (`undecided_shares` of a
            default tag).
        f1: macro F1 on dev, 0 to 1.
        coverage: share of unlabeled messages with a vote.
        tell: the tags (n x k) that the label model, fitted on all of dev, gives to n other rows with such votes.
    """

    told: Mask
    probabilities: NDArray[np.float64]
    f1: float
    coverage: float
    tell: Callable[[Codes], Mask]


def judge(field: Field, dev: Codes, sample: Codes, *, seed: int) -> Judgement:
    """Fits the label model `kommuna` and judges it on dev, five folds held out.

    Args:
        dev: d x m, the rules' votes on dev, each cast without the row.
        sample: s x m, their votes on the sample of messages.
    """
    shares = (field.truth.sum(axis=0) + 1) / (len(field.truth) + len(field.tags))
    prior = np.tile(shares, (len(dev), 1))
    covered = (dev != ABSTAIN).any(axis=1)
    if not dev.shape[1]:
        told = _given(field, prior, dev)
        return Judgement(
            told,
            prior,
            macro_f1(told, field.truth),
            0.0,
            lambda votes: _given(field, np.tile(shares, (len(votes), 1)), votes),
        )
    settings = Settings(seed=seed)
    patterns, rows = _patterns(field, sample), Dev(dev, field.truth)
    fit = with_default(fit_label_model(lambda: MODELS["kommuna"](settings), patterns, rows, seed=seed), patterns, rows)
    assert fit.held_out is not None
    told = _given(field, fit.held_out.probabilities, dev)
    known = covered[:, None] | (field.otherwise is not None)
    probabilities = np.where(known, fit.held_out.probabilities, prior)
    coverage = float((sample != ABSTAIN).any(axis=1).mean())
    return Judgement(
        told,
        probabilities,
        macro_f1(told, field.truth),
        coverage,
        lambda votes: _given(field, fit.predict(votes), votes),
    )


def _given(field: Field, probabilities: NDArray[np.float64], votes: Codes) -> Mask:
    return assign_tags(probabilities, votes, default=field.default, several_tags=field.several_tags)


def gain_error(before: Mask, after: Mask, truth: Mask, *, seed: int) -> float:
    """The standard error of the difference in macro F1 on the same rows, by the bootstrap."""
    gains = []
    for drawn in bootstrap(len(truth), draws=_DRAWS, seed=seed):
        is_now, was = TagCounts.of(after, truth, drawn), TagCounts.of(before, truth, drawn)
        gains.append(is_now.macro(is_now.f1) - was.macro(was.f1))
    return float(np.concatenate(gains).std())


def _patterns(field: Field, sample: Codes) -> VotePatterns:
    votes, counts, line = distinct(list(sample.T))
    names = tuple(str(j) for j in range(sample.shape[1]))
    return VotePatterns(votes, counts, line, field.tags, names, field.several_tags, field.default)

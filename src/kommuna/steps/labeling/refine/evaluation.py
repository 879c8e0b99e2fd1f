"""Evaluates a list of rules: macro F1 of the label model on held-out dev rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.labeling.models.default_tag import assign_tags, with_default
from kommuna.steps.labeling.models.fitting import fit_label_model
from kommuna.steps.labeling.models.registry import MODELS, Settings
from kommuna.steps.labeling.refine.data import RefineData
from kommuna.steps.labeling.votes.labeled_votes import LabeledVotes
from kommuna.steps.labeling.votes.patterns import ABSTAIN, Codes, VotePatterns, distinct
from kommuna.steps.statistics import TagCounts, bootstrap, macro_f1

_DRAWS = 200  # draws of the bootstrap

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Evaluation:
    """The figures of a list of rules on dev.

    Attributes:
        assigned: d x k, the tags assigned to each held-out dev row; a row without a vote has the default tag, or none.
        probabilities: d x k, the probabilities of the tags; for a row without a vote the shares of the tags, or with a
            default tag `undecided_shares`.
        f1: macro F1 on dev, 0 to 1.
        coverage: the share of unlabeled messages with a vote.
        assign: returns the tags (n x k) that the label model, fitted on all of dev, assigns to n rows of votes.
    """

    assigned: Mask
    probabilities: NDArray[np.float64]
    f1: float
    coverage: float
    assign: Callable[[Codes], Mask]


def evaluate(data: RefineData, dev: Codes, sample: Codes, *, seed: int) -> Evaluation:
    """Fits the label model `kommuna` and evaluates it on dev by cross-validation with five folds.

    Args:
        data: the rows and tags that rules are refined on.
        dev: d x m, the rules' votes on dev; a vote on a row must not depend on its tag.
        sample: s x m, their votes on the sample of messages.
        seed: seed of the label model.
    """
    shares = (data.truth.sum(axis=0) + 1) / (len(data.truth) + len(data.tags))
    prior = np.tile(shares, (len(dev), 1))
    covered = (dev != ABSTAIN).any(axis=1)
    if not dev.shape[1]:
        assigned = _assign(data, prior, dev)
        return Evaluation(
            assigned,
            prior,
            macro_f1(assigned, data.truth),
            0.0,
            lambda votes: _assign(data, np.tile(shares, (len(votes), 1)), votes),
        )
    settings = Settings(seed=seed)
    patterns, rows = _patterns(data, sample), LabeledVotes(dev, data.truth)
    fit = with_default(fit_label_model(lambda: MODELS["kommuna"](settings), patterns, rows, seed=seed), patterns, rows)
    assert fit.held_out is not None
    assigned = _assign(data, fit.held_out.probabilities, dev)
    known = covered[:, None] | (data.otherwise is not None)
    probabilities = np.where(known, fit.held_out.probabilities, prior)
    coverage = float((sample != ABSTAIN).any(axis=1).mean())
    return Evaluation(
        assigned,
        probabilities,
        macro_f1(assigned, data.truth),
        coverage,
        lambda votes: _assign(data, fit.predict(votes), votes),
    )


def _assign(data: RefineData, probabilities: NDArray[np.float64], votes: Codes) -> Mask:
    return assign_tags(probabilities, votes, default=data.default, multi_label=data.multi_label)


def gain_error(before: Mask, after: Mask, truth: Mask, *, seed: int) -> float:
    """Estimates the standard error of a difference in macro F1 on the same rows, by the bootstrap.

    Args:
        before: d x k, the tags assigned before a change.
        after: d x k, the tags assigned after it.
        truth: d x k, the true tags.
        seed: seed of the bootstrap.
    """
    gains = []
    for drawn in bootstrap(len(truth), draws=_DRAWS, seed=seed):
        is_now, was = TagCounts.of(after, truth, drawn), TagCounts.of(before, truth, drawn)
        gains.append(is_now.macro(is_now.f1) - was.macro(was.f1))
    return float(np.concatenate(gains).std())


def _patterns(data: RefineData, sample: Codes) -> VotePatterns:
    votes, counts, line = distinct(list(sample.T))
    names = tuple(str(j) for j in range(sample.shape[1]))
    return VotePatterns(votes, counts, line, data.tags, names, data.multi_label, data.default)

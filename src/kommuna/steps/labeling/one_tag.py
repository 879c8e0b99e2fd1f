"""Fits label models, which know rows of one tag: once where a row has one, once a tag where it may have several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import structlog
from numpy.typing import NDArray

from kommuna.steps.labeling.dev import Dev
from kommuna.steps.labeling.models.base import BaseLabelModel, Beliefs, DevRows, HeldOut, Predict, folds
from kommuna.steps.labeling.models.majority import Majority
from kommuna.steps.labeling.patterns import ABSTAIN, Codes, VotePatterns, distinct

log = structlog.get_logger()

NewModel = Callable[[], BaseLabelModel]
_MOST_UNSPOKEN = 0.499  # a tag is told from one half


@dataclass(frozen=True)
class Fitted:
    """A fitted label model.

    Attributes:
        predict: probabilities, a line each of P x m codes and k columns. Where rows have one tag lines sum to 1.
        held_out: the model without each fold of the dev rows; None without dev rows.
        calibrated: whether the model has fitted its confidence to the dev rows by itself.
    """

    predict: Predict
    held_out: HeldOut | None
    calibrated: bool = False


def fitted(new_model: NewModel, patterns: VotePatterns, dev: Dev | None, *, seed: int) -> Fitted:
    """Fits on patterns and dev rows.

    Args:
        seed: of the folds of dev rows; models that hold out rows by themselves are made with the same.
    """
    if patterns.several_tags:
        return _tag_by_tag(new_model, patterns, dev, seed)
    rows = DevRows(dev.votes, dev.tag) if dev is not None else None
    return _fitted(new_model, patterns, rows, seed)


def _fitted(new_model: NewModel, patterns: VotePatterns, dev: DevRows | None, seed: int) -> Fitted:
    model = new_model().fit(patterns, dev)
    if dev is None:
        return Fitted(model.predict, None)
    if model.held_out is not None:
        return Fitted(model.predict, model.held_out, calibrated=True)
    fold = folds(len(dev), seed=seed)
    told: list[Predict] = []
    for f in range(int(fold.max()) + 1):
        apart = new_model().fit(patterns, dev.only(fold != f)) if model.learns_from_dev else model
        told.append(apart.predict)
    return Fitted(model.predict, HeldOut.told(told, fold, dev.votes, len(patterns.tags)))


def _tag_by_tag(new_model: NewModel, patterns: VotePatterns, dev: Dev | None, seed: int) -> Fitted:
    """One question for each tag, has the row it or not, put to the rules of that tag."""
    k = len(patterns.tags)
    tag_of = patterns.votes.max(axis=0, initial=ABSTAIN) % k  # a rule's votes are all for or against one tag
    silent = (patterns.votes == ABSTAIN).all(axis=0)
    least = new_model().least_rules
    answers: list[_Answer] = []
    few: list[str] = []
    for tag in range(k):
        own = np.flatnonzero((tag_of == tag) & ~silent)
        if not len(own):
            continue  # nobody speaks for the tag: no row is said to have it
        rows = None
        if dev is not None:
            rows = DevRows(_yes_no(dev.votes[:, own], tag), dev.truth[:, tag].astype(np.int64))
        able = new_model if len(own) >= least else Majority
        if able is Majority:
            few.append(patterns.tags[tag])
        fit = _fitted(able, _question(patterns, tag, own), rows, seed)
        answers.append(_Answer(tag, own, fit, _MOST_UNSPOKEN if able().learns_from_dev else 0.0))
    if few:
        log.warning("label.majority_instead", tags=few, hint=f"the model needs {least} rules for each tag")

    def told(how: Callable[[Fitted], Predict]) -> Predict:
        def predict(votes: Codes) -> Beliefs:
            beliefs = np.zeros((len(votes), k))
            for answer in answers:
                asked, _, line = distinct([_yes_no(votes[:, j], answer.tag) for j in answer.rules])
                beliefs[:, answer.tag] = answer.yes(how(answer.fitted)(asked), asked)[line]
            return beliefs

        return predict

    predict = told(lambda fit: fit.predict)
    if dev is None:
        return Fitted(predict, None)
    fold = folds(len(dev), seed=seed)
    without = [told(partial(_without, fold=f)) for f in range(int(fold.max()) + 1)]
    held_out = HeldOut.told(without, fold, dev.votes, k)
    return Fitted(predict, held_out, calibrated=all(answer.fitted.calibrated for answer in answers))


def _without(fit: Fitted, *, fold: int) -> Predict:
    return fit.predict if fit.held_out is None else fit.held_out.predict[fold]


@dataclass(frozen=True)
class _Answer:
    """Who answers whether a row has a tag, to which rules' votes, and how likely a yes may be without any."""

    tag: int
    rules: NDArray[np.intp]
    fitted: Fitted
    most_unspoken: float

    def yes(self, beliefs: Beliefs, votes: Codes) -> NDArray[np.float64]:
        """The probability of yes. Silence of all the tag's rules may make it likely, but is no yes."""
        spoken = (votes != ABSTAIN).any(axis=1)
        return np.where(spoken, beliefs[:, 1], np.minimum(beliefs[:, 1], self.most_unspoken))


def _question(patterns: VotePatterns, tag: int, own: NDArray[np.intp]) -> VotePatterns:
    """Yes or no to one tag: the distinct votes of its rules."""
    votes, _, line = distinct([_yes_no(patterns.votes[:, j], tag) for j in own])
    counts = np.bincount(line, weights=patterns.counts, minlength=len(votes)).astype(np.int64)
    rules = tuple(patterns.rules[j] for j in own)
    return VotePatterns(votes, counts, line[patterns.row_pattern], ("no", patterns.tags[tag]), rules)


def _yes_no(votes: Codes, tag: int) -> Codes:
    return np.where(votes < 0, ABSTAIN, (votes == tag).astype(np.int16)).astype(np.int16)

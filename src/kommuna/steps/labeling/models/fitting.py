"""Fits label models, which know rows of one tag: once where a row has one, once a tag where it may have several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import structlog
from numpy.typing import NDArray

from kommuna.steps.labeling.models.base import FOLDS, BaseLabelModel, Beliefs, DevRows, HeldOut, Predict
from kommuna.steps.labeling.models.calibration import calibrate
from kommuna.steps.labeling.models.given_tags import least_given, voted_for
from kommuna.steps.labeling.models.log_odds_calibration import log_odds_calibration
from kommuna.steps.labeling.models.majority import Majority
from kommuna.steps.labeling.votes.dev_rows import Dev
from kommuna.steps.labeling.votes.patterns import ABSTAIN, Codes, VotePatterns, distinct, sample
from kommuna.steps.statistics import folds

log = structlog.get_logger()

NewModel = Callable[[], BaseLabelModel]
_Fix = Callable[[Beliefs], Beliefs]
_MOST_UNSPOKEN = 0.499  # a tag is told from one half
_SILENT_ROWS = 4.0  # weight of all tags' share of silent dev rows beside a tag's own, in rows


@dataclass(frozen=True)
class Fitted:
    """A fitted label model.

    Attributes:
        predict: probabilities, a line each of P x m codes and k columns. Where rows have one tag lines sum to 1.
        held_out: the model without each fold of the dev rows; None without dev rows.
        calibrated: whether the model has fitted its confidence to the dev rows by itself.
        least: k, where rows may have several tags: the probability from which a tag with a vote is given
            (`least_given`); None: one half.
    """

    predict: Predict
    held_out: HeldOut | None
    calibrated: bool = False
    least: NDArray[np.float64] | None = None


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
    fold = folds(len(dev), FOLDS, seed=seed)
    told: list[Predict] = []
    for f in range(int(fold.max()) + 1):
        apart = new_model().fit(patterns, dev.only(fold != f)) if model.learns_from_dev else model
        told.append(apart.predict)
    return Fitted(model.predict, HeldOut.told(told, fold, dev.votes, len(patterns.tags)))


def _tag_by_tag(new_model: NewModel, patterns: VotePatterns, dev: Dev | None, seed: int) -> Fitted:
    """One question for each tag, has the row it or not, put to the rules of that tag.

    Where none of them votes the answer is the tag's share of such dev rows (`_silent_shares`), not the model's.
    """
    k = len(patterns.tags)
    tag_of = patterns.votes.max(axis=0, initial=ABSTAIN) % k  # a rule's votes are all for or against one tag
    silent = (patterns.votes == ABSTAIN).all(axis=0)
    least = new_model().least_rules
    answers: list[_Answer] = []
    few: list[str] = []
    for tag in range(k):
        own = np.flatnonzero((tag_of == tag) & ~silent)
        if not len(own):
            continue
        rows = None
        if dev is not None:
            rows = DevRows(_yes_no(dev.votes[:, own], tag), dev.truth[:, tag].astype(np.int64))
        able = new_model if len(own) >= least else Majority
        if able is Majority:
            few.append(patterns.tags[tag])
        answers.append(_Answer(tag, own, _fitted(able, _question(patterns, tag, own), rows, seed)))
    if few:
        log.warning("label.majority_instead", tags=few, hint=f"the model needs {least} rules for each tag")
    if dev is None:
        return Fitted(_told(answers, np.zeros(k), lambda fit: fit.predict), None)
    fold = folds(len(dev), FOLDS, seed=seed)
    counts_votes = isinstance(new_model(), Majority)
    *fix_without, fix = _calibrations(answers, dev, fold, counts=counts_votes)
    without = [
        _told(answers, _silent_shares(answers, dev, fold != f), partial(_without, fold=f), fix_without[f])
        for f in range(int(fold.max()) + 1)
    ]
    shares = _silent_shares(answers, dev, np.ones(len(dev), dtype=bool))
    predict = _told(answers, shares, lambda fit: fit.predict, fix)
    fit = Fitted(predict, HeldOut.told(without, fold, dev.votes, k), calibrated=True)
    if counts_votes:  # dev rows change none of its answers
        return fit
    seen = sample(patterns, seed=seed)
    return replace(fit, least=least_given(predict(seen.votes), voted_for(seen.votes, k), seen.counts))


@dataclass(frozen=True)
class _Answer:
    """Who answers whether a row has a tag, and to which rules' votes."""

    tag: int
    rules: NDArray[np.intp]
    fitted: Fitted


def _told(
    answers: list[_Answer],
    silent_share: NDArray[np.float64],
    how: Callable[[Fitted], Predict],
    fix: _Fix = lambda beliefs: beliefs,
) -> Predict:
    """Rows x k probabilities from the answers to each tag's question.

    Args:
        silent_share: k, the probability of a tag on whose rules' votes nothing is heard.
        how: which of the fitted models answers: that of all dev rows, or one without a fold.
        fix: fixes the answers of models that have not fitted their confidence to dev rows by themselves.
    """

    def predict(votes: Codes) -> Beliefs:
        beliefs = np.tile(silent_share, (len(votes), 1))
        for answer in answers:
            asked, _, line = distinct([_yes_no(votes[:, j], answer.tag) for j in answer.rules])
            said = how(answer.fitted)(asked)
            yes = (said if answer.fitted.calibrated else fix(said))[:, 1]
            spoken = (asked != ABSTAIN).any(axis=1)
            beliefs[:, answer.tag] = np.where(spoken, yes, silent_share[answer.tag])[line]
        return beliefs

    return predict


def _without(fit: Fitted, *, fold: int) -> Predict:
    return fit.predict if fit.held_out is None else fit.held_out.predict[fold]


def _silent_shares(answers: list[_Answer], dev: Dev, rows: NDArray[np.bool_]) -> NDArray[np.float64]:
    """k, the share of each tag among the dev rows on which others' rules vote and its own do not.

    The share counts beside `_SILENT_ROWS` rows of the share over all tags, which is 0 where there are no such dev rows.
    It is never a yes: nobody has said so.

    Args:
        rows: d, which dev rows count.
    """
    silent = np.tile(dev.covered & rows, (dev.truth.shape[1], 1)).T
    for answer in answers:
        silent[:, answer.tag] &= (dev.votes[:, answer.rules] == ABSTAIN).all(axis=1)
    seen, has = silent.sum(axis=0), (silent & dev.truth).sum(axis=0)
    over_all = has.sum() / (seen.sum() + _SILENT_ROWS)
    return np.asarray(np.minimum((has + _SILENT_ROWS * over_all) / (seen + _SILENT_ROWS), _MOST_UNSPOKEN))


def _calibrations(answers: list[_Answer], dev: Dev, fold: NDArray[np.int64], *, counts: bool) -> list[_Fix]:
    """What fixes the answers to all tags' questions together: without each fold, and of all dev rows (the last).

    Args:
        counts: whether the model counts votes: then dev rows say how sure it may be, but change none of its answers.
    """
    told: list[Beliefs] = [np.zeros((0, 2))]
    truth: list[NDArray[np.bool_]] = [np.zeros(0, dtype=bool)]
    of: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]
    for answer in answers:
        if answer.fitted.held_out is None or answer.fitted.calibrated:
            continue
        spoken = (dev.votes[:, answer.rules] != ABSTAIN).any(axis=1)
        told.append(answer.fitted.held_out.beliefs[spoken])
        truth.append(dev.truth[spoken, answer.tag])
        of.append(fold[spoken])
    beliefs, right, its_fold = np.concatenate(told), np.concatenate(truth), np.concatenate(of)
    last = int(fold.max()) + 1
    if counts:
        scale, without = calibrate(beliefs, right.astype(np.int64), its_fold)
        return [*without, *[scale] * (last + 1 - len(without))]
    kept = [its_fold != f for f in range(last + 1)]  # no cell is of the last, which stands for all dev rows
    return [log_odds_calibration(beliefs[rows], right[rows]) for rows in kept]


def _question(patterns: VotePatterns, tag: int, own: NDArray[np.intp]) -> VotePatterns:
    """Yes or no to one tag: the distinct votes of its rules."""
    votes, _, line = distinct([_yes_no(patterns.votes[:, j], tag) for j in own])
    counts = np.bincount(line, weights=patterns.counts, minlength=len(votes)).astype(np.int64)
    rules = tuple(patterns.rules[j] for j in own)
    return VotePatterns(votes, counts, line[patterns.row_pattern], ("no", patterns.tags[tag]), rules)


def _yes_no(votes: Codes, tag: int) -> Codes:
    return np.where(votes < 0, ABSTAIN, (votes == tag).astype(np.int16)).astype(np.int16)

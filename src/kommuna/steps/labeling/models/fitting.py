"""Fits label models: one model where rows have one tag, one yes-or-no model per tag where they may have several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import structlog
from numpy.typing import NDArray

from kommuna.steps.cores import one_blas_thread
from kommuna.steps.labeling.models.base import FOLDS, BaseLabelModel, DevRows, HeldOut, Predict, Probabilities
from kommuna.steps.labeling.models.calibration import calibrate
from kommuna.steps.labeling.models.majority import Majority
from kommuna.steps.labeling.models.tag_thresholds import f1_thresholds, voted_for
from kommuna.steps.labeling.votes.labeled_votes import LabeledVotes
from kommuna.steps.labeling.votes.patterns import ABSTAIN, Codes, VotePatterns, distinct, sample
from kommuna.steps.log_odds_calibration import LogOddsCalibration, log_odds_calibration
from kommuna.steps.statistics import folds

log = structlog.get_logger()

NewModel = Callable[[], BaseLabelModel]
_Calibrate = Callable[[Probabilities], Probabilities]
_MAX_SILENT_SHARE = 0.499  # a tag is assigned from one half
_SILENT_ROWS = 4.0  # weight, in rows, of the share over all tags beside a tag's own rows


@dataclass(frozen=True)
class FittedLabelModel:
    """A fitted label model.

    Attributes:
        predict: returns P x k probabilities of P x m codes. Each row sums to 1 where rows have one tag.
        held_out: the cross-fit on the dev rows; None without dev rows.
        calibrated: whether the probabilities are calibrated on the dev rows.
        thresholds: k, where rows may have several tags: the probability from which a tag with a vote is assigned
            (`f1_thresholds`); None means one half.
    """

    predict: Predict
    held_out: HeldOut | None
    calibrated: bool = False
    thresholds: NDArray[np.float64] | None = None


@one_blas_thread()
def fit_label_model(
    new_model: NewModel, patterns: VotePatterns, dev: LabeledVotes | None, *, seed: int
) -> FittedLabelModel:
    """Fits a label model on vote patterns and dev rows; their order changes nothing.

    Args:
        new_model: makes an unfitted model.
        patterns: the vote patterns of all rows.
        dev: labeled rows, if there are any.
        seed: seed of the folds of the dev rows; models that hold out rows by themselves are made with the same seed.
    """
    if dev is None:
        return _fit(new_model, patterns, None, seed)
    order = dev.by_content()
    fit = _fit(new_model, patterns, LabeledVotes(dev.votes[order], dev.truth[order]), seed)
    return replace(fit, held_out=fit.held_out and fit.held_out.rows_at(np.argsort(order)))


def _fit(new_model: NewModel, patterns: VotePatterns, dev: LabeledVotes | None, seed: int) -> FittedLabelModel:
    if patterns.multi_label:
        return _fit_per_tag(new_model, patterns, dev, seed)
    return _fit_single_tag(new_model, patterns, None if dev is None else DevRows(dev.votes, dev.tag), seed)


def _fit_single_tag(new_model: NewModel, patterns: VotePatterns, dev: DevRows | None, seed: int) -> FittedLabelModel:
    model = new_model().fit(patterns, dev)
    if dev is None:
        return FittedLabelModel(model.predict, None)
    if model.held_out is not None:
        return FittedLabelModel(model.predict, model.held_out, calibrated=True)
    fold = folds(len(dev), FOLDS, seed=seed)
    predict_by_fold: list[Predict] = []
    for f in range(int(fold.max()) + 1):
        fold_model = new_model().fit(patterns, dev.where(fold != f)) if model.learns_from_dev else model
        predict_by_fold.append(fold_model.predict)
    held_out = HeldOut.predicted(predict_by_fold, fold, dev.votes, len(patterns.tags))
    return FittedLabelModel(model.predict, held_out)


def _fit_per_tag(new_model: NewModel, patterns: VotePatterns, dev: LabeledVotes | None, seed: int) -> FittedLabelModel:
    """Fits one yes-or-no model per tag on the votes of that tag's rules (binary relevance).

    Where none of a tag's rules votes, the probability is the tag's share of such dev rows (`_silent_shares`).
    """
    k = len(patterns.tags)
    tag_of = patterns.votes.max(axis=0, initial=ABSTAIN) % k  # a rule's votes are all for or against one tag
    silent = (patterns.votes == ABSTAIN).all(axis=0)
    min_rules = new_model().min_rules
    tag_models: list[_TagModel] = []
    too_few_rules: list[str] = []
    for tag in range(k):
        rules = np.flatnonzero((tag_of == tag) & ~silent)
        if not len(rules):
            continue
        rows = None
        if dev is not None:
            rows = DevRows(_yes_no(dev.votes[:, rules], tag), dev.truth[:, tag].astype(np.int64))
        new_tag_model = new_model if len(rules) >= min_rules else Majority
        if new_tag_model is Majority:
            too_few_rules.append(patterns.tags[tag])
        fitted = _fit_single_tag(new_tag_model, _yes_no_patterns(patterns, tag, rules), rows, seed)
        tag_models.append(_TagModel(tag, rules, fitted))
    if too_few_rules:
        log.warning(
            "label.majority_instead", tags=too_few_rules, hint=f"the model needs {min_rules} rules for each tag"
        )
    if dev is None:
        return FittedLabelModel(_combined(tag_models, np.zeros(k), lambda fit: fit.predict), None)
    fold = folds(len(dev), FOLDS, seed=seed)
    counts_votes = isinstance(new_model(), Majority)
    *fold_calibrations, calibration = _calibrations(tag_models, dev, fold, counts_votes=counts_votes)
    predict_by_fold = [
        _combined(
            tag_models,
            _silent_shares(tag_models, dev, fold != f),
            partial(_predict_without, fold=f),
            fold_calibrations[f],
        )
        for f in range(int(fold.max()) + 1)
    ]
    shares = _silent_shares(tag_models, dev, np.ones(len(dev), dtype=bool))
    predict = _combined(tag_models, shares, lambda fit: fit.predict, calibration)
    fit = FittedLabelModel(predict, HeldOut.predicted(predict_by_fold, fold, dev.votes, k), calibrated=True)
    if counts_votes:  # dev rows do not change its tags
        return fit
    drawn = sample(patterns, seed=seed)
    return replace(fit, thresholds=f1_thresholds(predict(drawn.votes), voted_for(drawn.votes, k), drawn.counts))


@dataclass(frozen=True)
class _TagModel:
    """The yes-or-no model of one tag, and the rules whose votes it reads."""

    tag: int
    rules: NDArray[np.intp]
    fitted: FittedLabelModel


def _combined(
    tag_models: list[_TagModel],
    silent_share: NDArray[np.float64],
    predict_of: Callable[[FittedLabelModel], Predict],
    calibration: _Calibrate = lambda probabilities: probabilities,
) -> Predict:
    """Returns a function from P x m codes to P x k probabilities that calls the model of each tag.

    Args:
        tag_models: the models of the tags that have rules.
        silent_share: k, the probability of a tag where none of its rules votes.
        predict_of: selects the model fitted on all dev rows, or the one fitted without a fold.
        calibration: applied to the models that are not calibrated yet.
    """

    def predict(votes: Codes) -> Probabilities:
        probabilities = np.tile(silent_share, (len(votes), 1))
        for model in tag_models:
            tag_votes, _, pattern = distinct([_yes_no(votes[:, j], model.tag) for j in model.rules])
            predicted = predict_of(model.fitted)(tag_votes)
            yes = (predicted if model.fitted.calibrated else calibration(predicted))[:, 1]
            covered = (tag_votes != ABSTAIN).any(axis=1)
            probabilities[:, model.tag] = np.where(covered, yes, silent_share[model.tag])[pattern]
        return probabilities

    return predict


def _predict_without(fit: FittedLabelModel, *, fold: int) -> Predict:
    return fit.predict if fit.held_out is None else fit.held_out.predict[fold]


def _silent_shares(tag_models: list[_TagModel], dev: LabeledVotes, rows: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns the share of each tag among the dev rows on which only other tags' rules vote, k.

    The share is smoothed by `_SILENT_ROWS` rows that have the share over all tags, which is 0 where there are no such
    dev rows. It stays below one half, since no rule votes for the tag.

    Args:
        tag_models: the models of the tags that have rules.
        dev: the dev rows.
        rows: d, which dev rows to count.
    """
    silent = np.tile(dev.covered & rows, (dev.truth.shape[1], 1)).T
    for model in tag_models:
        silent[:, model.tag] &= (dev.votes[:, model.rules] == ABSTAIN).all(axis=1)
    total, with_tag = silent.sum(axis=0), (silent & dev.truth).sum(axis=0)
    over_all = with_tag.sum() / (total.sum() + _SILENT_ROWS)
    smoothed = (with_tag + _SILENT_ROWS * over_all) / (total + _SILENT_ROWS)
    return np.asarray(np.minimum(smoothed, _MAX_SILENT_SHARE))


def _calibrations(
    tag_models: list[_TagModel], dev: LabeledVotes, fold: NDArray[np.int64], *, counts_votes: bool
) -> list[_Calibrate]:
    """Fits one calibration for all tags: without each fold, and last on all dev rows.

    Args:
        tag_models: the models of the tags that have rules.
        dev: the dev rows.
        fold: d, the fold of each dev row.
        counts_votes: whether the model is the majority vote; its calibration then leaves its tags unchanged.
    """
    predicted: list[Probabilities] = [np.zeros((0, 2))]
    truth: list[NDArray[np.bool_]] = [np.zeros(0, dtype=bool)]
    row_folds: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]
    for model in tag_models:
        if model.fitted.held_out is None or model.fitted.calibrated:
            continue
        covered = (dev.votes[:, model.rules] != ABSTAIN).any(axis=1)
        predicted.append(model.fitted.held_out.probabilities[covered])
        truth.append(dev.truth[covered, model.tag])
        row_folds.append(fold[covered])
    probabilities, right, row_fold = np.concatenate(predicted), np.concatenate(truth), np.concatenate(row_folds)
    last = int(fold.max()) + 1
    if counts_votes:
        scale, without = calibrate(probabilities, right.astype(np.int64), row_fold)
        return [*without, *[scale] * (last + 1 - len(without))]
    kept = [row_fold != f for f in range(last + 1)]  # no row is in the last fold, so it keeps all dev rows
    no, yes = probabilities.T
    return [partial(_on_log_odds, log_odds_calibration(yes[rows], no[rows], right[rows])) for rows in kept]


def _on_log_odds(calibration: LogOddsCalibration, probabilities: Probabilities) -> Probabilities:
    """Returns d x 2 calibrated probabilities, no and yes."""
    yes = calibration(probabilities[:, 1], probabilities[:, 0])
    return np.stack([1 - yes, yes], axis=1)


def _yes_no_patterns(patterns: VotePatterns, tag: int, rules: NDArray[np.intp]) -> VotePatterns:
    """Returns the distinct votes of one tag's rules, with the tags "no" and the tag itself."""
    votes, _, pattern = distinct([_yes_no(patterns.votes[:, j], tag) for j in rules])
    counts = np.bincount(pattern, weights=patterns.counts, minlength=len(votes)).astype(np.int64)
    names = tuple(patterns.rules[j] for j in rules)
    return VotePatterns(votes, counts, pattern[patterns.row_pattern], ("no", patterns.tags[tag]), names)


def _yes_no(votes: Codes, tag: int) -> Codes:
    return np.where(votes < 0, ABSTAIN, (votes == tag).astype(np.int16)).astype(np.int16)

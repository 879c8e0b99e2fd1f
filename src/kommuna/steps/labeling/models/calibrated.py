"""Calibrates a fitted label model on dev rows, and measures it on them."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.labeling.models.base import HeldOut, Predict, Probabilities
from kommuna.steps.labeling.models.calibration import Calibration, calibrate
from kommuna.steps.labeling.models.default_tag import assign_tags, confidence
from kommuna.steps.labeling.models.fitting import FittedLabelModel
from kommuna.steps.labeling.votes.labeled_votes import LabeledVotes
from kommuna.steps.labeling.votes.patterns import Codes
from kommuna.steps.statistics import TagCounts, calibration_error, macro_f1


def calibrated(model: FittedLabelModel, held_out: HeldOut, dev: LabeledVotes) -> FittedLabelModel:
    """Returns a model of rows with one tag, calibrated on dev rows; its tags stay the same.

    Args:
        model: the fitted model.
        held_out: its cross-fit on the dev rows; it is calibrated without the fold too.
        dev: the dev rows.
    """
    covered = dev.covered
    if not covered.any():
        return model
    scale, without = calibrate(held_out.probabilities[covered], dev.tag[covered], held_out.fold[covered])
    without += [scale] * (len(held_out.predict) - len(without))  # folds without a covered row
    predict = [partial(_scaled, predict_fold, s) for predict_fold, s in zip(held_out.predict, without, strict=True)]
    held_out_calibrated = HeldOut.predicted(predict, held_out.fold, dev.votes, held_out.probabilities.shape[1])
    return FittedLabelModel(partial(_scaled, model.predict, scale), held_out_calibrated, calibrated=True)


def _scaled(predict: Predict, scale: Calibration, votes: Codes) -> Probabilities:
    return scale(predict(votes))


def dev_figures(
    probabilities: Probabilities,
    dev: LabeledVotes,
    *,
    multi_label: bool,
    default: int | None,
    thresholds: NDArray[np.float64] | None = None,
) -> dict[str, float]:
    """Measures predictions on dev rows: accuracy, or F1 where rows have several tags.

    A row without a vote has the default tag; if there is none, it counts as wrong.

    Args:
        probabilities: d x k.
        dev: the dev rows.
        multi_label: whether rows may have several tags.
        default: the index of the default tag, if there is one.
        thresholds: see `assign_tags`.
    """
    assigned = assign_tags(probabilities, dev.votes, default=default, multi_label=multi_label, thresholds=thresholds)
    if multi_label:
        return {
            "dev_f1_micro": TagCounts.of(assigned, dev.truth).micro_f1,
            "dev_f1_macro": macro_f1(assigned, dev.truth),
        }
    right_rows = (assigned & dev.truth).any(axis=1)
    return {
        "dev_accuracy": float(right_rows.mean()),
        "dev_accuracy_labeled": float(right_rows.sum() / max(assigned.any(axis=1).sum(), 1)),
    }


def dev_calibration_error(
    probabilities: Probabilities, dev: LabeledVotes, *, multi_label: bool, default: int | None
) -> float:
    """Returns the calibration error on dev rows: of the assigned tag, or where rows have several tags, of all tags.

    Args:
        probabilities: d x k.
        dev: the dev rows.
        multi_label: whether rows may have several tags.
        default: the index of the default tag, if there is one; without it rows without a vote do not count.
    """
    labeled = dev.covered if default is None else np.ones(len(dev), dtype=np.bool_)
    predicted, truth = probabilities[labeled], dev.truth[labeled]
    if multi_label:
        return calibration_error(predicted.reshape(-1), truth.reshape(-1))
    assigned = assign_tags(predicted, dev.votes[labeled], default=default, multi_label=False)
    return calibration_error(confidence(predicted, assigned), np.asarray((assigned & truth).any(axis=1)))

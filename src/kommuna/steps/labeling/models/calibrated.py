"""A fitted label model whose confidence is calibrated on dev rows, and its figures on them."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.labeling.models.base import Beliefs, HeldOut, Predict
from kommuna.steps.labeling.models.calibration import Calibration, calibrate
from kommuna.steps.labeling.models.default_tag import confidence, given
from kommuna.steps.labeling.models.fitting import Fitted
from kommuna.steps.labeling.votes.dev_rows import Dev
from kommuna.steps.labeling.votes.patterns import Codes
from kommuna.steps.statistics import TagCounts, calibration_error, macro_f1


def calibrated(model: Fitted, held_out: HeldOut, dev: Dev) -> Fitted:
    """The model of rows with one tag, its confidence as far as dev rows bear it out, and the same answers.

    Args:
        held_out: the model without each fold of the dev rows; its confidence is calibrated without the fold as well.
    """
    covered = dev.covered
    if not covered.any():
        return model
    scale, without = calibrate(held_out.beliefs[covered], dev.tag[covered], held_out.fold[covered])
    without += [scale] * (len(held_out.predict) - len(without))  # a fold without a covered row taught nothing
    predict = [partial(_scaled, say, s) for say, s in zip(held_out.predict, without, strict=True)]
    rest = HeldOut.told(predict, held_out.fold, dev.votes, held_out.beliefs.shape[1])
    return Fitted(partial(_scaled, model.predict, scale), rest, calibrated=True)


def _scaled(predict: Predict, scale: Calibration, votes: Codes) -> Beliefs:
    return scale(predict(votes))


def dev_figures(
    beliefs: Beliefs, dev: Dev, *, several_tags: bool, default: int | None, least: NDArray[np.float64] | None = None
) -> dict[str, float]:
    """How right d x k beliefs of dev rows are: accuracy, or F1 where rows have several tags.

    A row without a vote has the default tag; where there is none, it is unknown, which is wrong. `least`: see `given`.
    """
    said = given(beliefs, dev.votes, default=default, several_tags=several_tags, least=least)
    if several_tags:
        return {"dev_f1_micro": TagCounts.of(said, dev.truth).micro_f1, "dev_f1_macro": macro_f1(said, dev.truth)}
    right_rows = (said & dev.truth).any(axis=1)
    return {
        "dev_accuracy": float(right_rows.mean()),
        "dev_accuracy_labeled": float(right_rows.sum() / max(said.any(axis=1).sum(), 1)),
    }


def dev_calibration_error(beliefs: Beliefs, dev: Dev, *, several_tags: bool, default: int | None) -> float:
    """The calibration error of the labeled dev rows: of each answer, or where rows have several tags of each yes."""
    labeled = dev.covered if default is None else np.ones(len(dev), dtype=np.bool_)
    told, truth = beliefs[labeled], dev.truth[labeled]
    if several_tags:
        return calibration_error(told.reshape(-1), truth.reshape(-1))
    said = given(told, dev.votes[labeled], default=default, several_tags=False)
    return calibration_error(confidence(told, said), np.asarray((said & truth).any(axis=1)))

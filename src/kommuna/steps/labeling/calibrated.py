"""A fitted label model whose confidence dev rows have mended, and its figures on them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.labeling.default_tag import confidence, given
from kommuna.steps.labeling.dev import Dev
from kommuna.steps.labeling.models.base import Beliefs, HeldOut, Predict
from kommuna.steps.labeling.models.calibration import Calibration, calibrate, calibration_error
from kommuna.steps.labeling.one_tag import Fitted


def calibrated(model: Fitted, held_out: HeldOut, dev: Dev, *, several_tags: bool) -> Fitted:
    """The model with its confidence mended: the same answers, believed as far as dev rows bear them out.

    Args:
        held_out: the model without each fold of the dev rows; its confidence is mended without the fold as well.
    """
    covered = dev.covered
    if not covered.any():
        return model
    told, fold = held_out.beliefs[covered], held_out.fold[covered]
    if several_tags:
        k = told.shape[1]
        truth = dev.truth[covered].reshape(-1).astype(np.int64)
        scale, without = calibrate(_yes_no(told), truth, np.repeat(fold, k))
    else:
        scale, without = calibrate(told, dev.tag[covered], fold)
    without += [scale] * (len(held_out.predict) - len(without))  # a fold without a covered row taught nothing

    def mended(predict: Predict, scale: Calibration) -> Predict:
        if not several_tags:
            return lambda votes: scale(predict(votes))
        return lambda votes: _yes(scale, predict(votes))

    predict = [mended(say, s) for say, s in zip(held_out.predict, without, strict=True)]
    rest = HeldOut.told(predict, held_out.fold, dev.votes, held_out.beliefs.shape[1])
    return Fitted(mended(model.predict, scale), rest, calibrated=True)


def dev_figures(beliefs: Beliefs, dev: Dev, *, several_tags: bool, default: int | None) -> dict[str, float]:
    """How right d x k beliefs of dev rows are: accuracy, or F1 where rows have several tags.

    A row without a vote has the default tag; where there is none, it is unknown, which is wrong.
    """
    said = given(beliefs, dev.covered, default=default, several_tags=several_tags)
    if several_tags:
        right: NDArray[np.int64] = (said & dev.truth).sum(axis=0)
        both: NDArray[np.int64] = said.sum(axis=0) + dev.truth.sum(axis=0)
        there = np.flatnonzero(both)
        return {
            "dev_f1_micro": float(2 * right.sum() / max(both.sum(), 1)),
            "dev_f1_macro": float((2 * right[there] / both[there]).mean()) if len(there) else 0.0,
        }
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
    said = given(told, dev.covered[labeled], default=default, several_tags=False)
    return calibration_error(confidence(told, said), np.asarray((said & truth).any(axis=1)))


def _yes(scale: Calibration, beliefs: Beliefs) -> Beliefs:
    return scale(_yes_no(beliefs))[:, 1].reshape(beliefs.shape)


def _yes_no(beliefs: Beliefs) -> Beliefs:
    """Two columns, no and yes, of every belief."""
    yes = beliefs.reshape(-1)
    return np.stack([1 - yes, yes], axis=1)

"""Soft labels for any scikit-learn classifier: each row occurs once per likely class, weighted by its probability."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.training.fit import vector_scaling
from kommuna.steps.training.fit.folds import MIN_ROWS, Folds
from kommuna.steps.training.fit.soft_logistic import Link, Matrix, probabilities
from kommuna.steps.training.fit.training_data import TrainingData
from kommuna.steps.training.fit.vector_scaling import Scaling

FLOOR = 0.05  # less likely classes of a row are left out
WEAK_WEIGHTS = (0.0, 0.03, 0.1, 0.3, 1.0)  # of a weak row, where a dev row weighs one
DEFAULT_WEAK_WEIGHT = 0.1

Estimator = Callable[[], Any]


@dataclass(frozen=True)
class Ensemble:
    """Fitted estimators: one over all tags, or one per tag if rows may have several tags."""

    estimators: tuple[Any, ...]
    k: int
    link: Link
    scaling: Scaling = field(default_factory=Scaling)

    def scores(self, rows: Any) -> Matrix:
        """Returns `n x k` log-odds or log-probabilities."""
        if self.link == "sigmoid":
            columns = [_yes(estimator, rows) for estimator in self.estimators]
            p = np.clip(np.stack(columns, axis=1), 1e-6, 1 - 1e-6)
            return self.scaling.of(np.asarray(np.log(p) - np.log1p(-p), dtype=np.float32))
        found = self.estimators[0].predict_proba(rows)
        p = np.full((rows.shape[0], self.k), 1e-6)
        p[:, self.estimators[0].classes_.astype(int)] = np.maximum(found, 1e-6)
        return self.scaling.of(np.asarray(np.log(p), dtype=np.float32))

    def probabilities(self, rows: Any) -> Matrix:
        """Returns `n x k` probabilities."""
        return probabilities(self.scores(rows), self.link)


@dataclass(frozen=True)
class FittedEnsembles:
    """The model, the model of the dev rows alone, the chosen weight, and calibrated scores of held-out dev rows."""

    model: Ensemble
    dev_only: Ensemble
    weak_weight: float
    held_out: Matrix | None
    held_out_dev_only: Matrix | None


def fit(
    estimator: Estimator,
    stack: Callable[[Any, Any], Any],
    data: TrainingData,
    folds: Folds,
) -> FittedEnsembles:
    """Fits on weak and dev rows, with the weight of weak rows that suits held-out dev rows best.

    Weights are tried from 0 upwards until one is no better than the one before: little bias for more rows is a trade
    with one optimum, and where weak rows do not help at all only the lightest weight is tried.

    Args:
        estimator: returns a new classifier whose `fit` accepts `sample_weight`.
        stack: concatenates two blocks of rows.
        data: features of both kinds of rows, and their labels.
        folds: folds of the dev rows.
    """
    weak, dev, dev_labels, link = data.weak, data.dev, data.dev_labels, data.link

    def train(weak_rows: Any, weak_p: Matrix, weight: float, dev_rows: Any, dev_p: Matrix) -> Ensemble:
        if weight == 0 or not weak_p.shape[0]:
            return _fit(estimator, dev_rows, dev_p, np.ones(len(dev_p)), link)
        weights = np.concatenate([np.full(len(weak_p), weight), np.full(len(dev_p), data.dev_weight)])
        return _fit(estimator, stack(weak_rows, dev_rows), np.vstack([weak_p, dev_p]), weights, link)

    rows, k = dev_labels.shape
    weight, scaling, alone_scaling = DEFAULT_WEAK_WEIGHT, Scaling(), Scaling()
    held_out: Matrix | None = None
    held_out_alone: Matrix | None = None
    if rows >= MIN_ROWS:
        some, scale = weak[folds.rows], weak.shape[0] / max(1, len(folds.rows))
        least = np.inf
        for candidate in WEAK_WEIGHTS if weak.shape[0] else (0.0,):
            scores = np.zeros((rows, k), np.float32)
            for fold, inside, held in folds:
                model = train(some, folds.labels[fold], candidate * scale, dev[inside], dev_labels[inside])
                scores[held] = model.scores(dev[held])
            calibration, loss = vector_scaling.fit(scores, dev_labels, link)
            if candidate == 0:
                alone_scaling, held_out_alone = calibration, scores
            if loss >= least:  # heavier weak rows would be worse still
                break
            weight, scaling, held_out, least = candidate, calibration, scores, loss
    alone = train(weak, data.weak_labels, 0.0, dev, dev_labels)
    model = train(weak, data.weak_labels, weight, dev, dev_labels) if weight else alone
    return FittedEnsembles(
        replace(model, scaling=scaling),
        replace(alone, scaling=alone_scaling),
        weight,
        None if held_out is None else scaling.of(held_out),
        None if held_out_alone is None else alone_scaling.of(held_out_alone),
    )


def _fit(estimator: Estimator, rows: Any, labels: Matrix, weights: NDArray[np.float64], link: Link) -> Ensemble:
    k = labels.shape[1]
    if link == "softmax":
        return Ensemble((_fit_one(estimator, rows, labels, weights),), k, link)
    each = [_fit_one(estimator, rows, np.stack([1 - labels[:, j], labels[:, j]], axis=1), weights) for j in range(k)]
    return Ensemble(tuple(each), k, link)


def _fit_one(estimator: Estimator, rows: Any, labels: Matrix, weights: NDArray[np.float64]) -> Any:
    row, column = np.nonzero((labels >= FLOOR) | (labels == labels.max(axis=1, keepdims=True)))
    if len(np.unique(column)) < 2:
        return OneClass(int(column[0]))
    return estimator().fit(rows[row], column, sample_weight=labels[row, column] * weights[row])


class OneClass:
    """A constant classifier, for training rows with one class only."""

    def __init__(self, only: int) -> None:
        self.classes_ = np.array([only])

    def predict_proba(self, rows: Any) -> NDArray[np.float64]:
        """Returns probability 1 of the only class, `n x 1`."""
        return np.ones((rows.shape[0], 1))


def _yes(estimator: Any, rows: Any) -> NDArray[np.float64]:
    p = np.zeros((rows.shape[0], 2))
    p[:, estimator.classes_.astype(int)] = estimator.predict_proba(rows)
    return p[:, 1]

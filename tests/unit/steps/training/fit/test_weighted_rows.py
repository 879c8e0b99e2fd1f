"""The weight of weak rows: how many fits it takes to choose it, and what is chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.naive_bayes import GaussianNB

from kommuna.steps.training.fit import weighted_rows
from kommuna.steps.training.fit.folds import random_folds
from kommuna.steps.training.fit.training_data import TrainingData

N, D, FOLDS = 600, 60, 3


@pytest.mark.parametrize("right", [False, True])
def test_where_weak_rows_do_not_help_only_the_lightest_weight_is_tried(right: bool) -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, N + D)
    rows = random.normal(size=(N + D, 4)) + truth[:, None] * 0.7
    labels = np.eye(2, dtype=np.float32)[truth]
    weak_labels = labels[:N] if right else 1 - labels[:N]
    fitted_rows = []

    def estimator() -> Any:
        class Counted(GaussianNB):
            def fit(self, rows: Any, classes: Any, sample_weight: Any = None) -> Any:
                fitted_rows.append(len(rows))
                return super().fit(rows, classes, sample_weight)

        return Counted()

    data = TrainingData(rows[:N], weak_labels, rows[N:], labels[N:], "softmax")
    found = weighted_rows.fit(estimator, lambda a, b: np.vstack([a, b]), data, random_folds(D, weak_labels, seed=0))
    heavy = sum(count > D for count in fitted_rows)
    if right:
        assert found.weak_weight > 0
    else:
        assert found.weak_weight == 0
        assert heavy == FOLDS
        assert found.model.estimators == found.dev_only.estimators
        assert len(fitted_rows) == 2 * FOLDS + 1

"""`TrainingData`: the features and labels that every classifier is fitted on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kommuna.steps.training.fit.soft_logistic import Link, Matrix


@dataclass(frozen=True)
class TrainingData:
    """Features and labels of weakly labeled rows and of dev rows.

    Attributes:
        weak: `n x p` features of messages with a weak label, dense or sparse.
        weak_labels: `n x k` probabilities.
        dev: `d x p` features.
        dev_labels: `d x k` zeros and ones.
        link: softmax for one tag per row, sigmoid for several.
        dev_weight: weight of a dev row.
    """

    weak: Any
    weak_labels: Matrix
    dev: Any
    dev_labels: Matrix
    link: Link
    dev_weight: float = 1.0

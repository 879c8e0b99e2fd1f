"""What a linear model, an ensemble or a tagger of embeddings is fitted on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kommuna.steps.training.fit.soft_logistic import Link, Matrix


@dataclass(frozen=True)
class Evidence:
    """Features and labels of weak rows and of dev rows.

    Attributes:
        weak: `n x p` features of messages with a weak label, dense or sparse.
        weak_labels: `n x k` probabilities.
        dev: `d x p` features.
        dev_labels: `d x k` zeros and ones.
        link: softmax for one tag a row, sigmoid for several.
        dev_weight: how many times a dev row counts as it would by itself.
    """

    weak: Any
    weak_labels: Matrix
    dev: Any
    dev_labels: Matrix
    link: Link
    dev_weight: float = 1.0

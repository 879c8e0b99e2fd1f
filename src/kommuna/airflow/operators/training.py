"""Operators over the steps of taggers: train, evaluate, predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kommuna.airflow.operators.base import Input, SharedStepOperator, texts_or_template
from kommuna.spec.texts import distinct_texts


class TrainClassifierOperator(SharedStepOperator):
    """Trains a classifier on soft labels and the dev rows. Outputs: `model`, `dev_only`.

    Args:
        cross_fitted: the output `cross_fitted` of a label step that learned from the same dev rows. Without it, choices
            made on dev trust the labels too much.
    """

    step = "kommuna.steps:train_classifier"

    def __init__(
        self,
        *,
        messages: Input,
        labels: Input,
        dev: Input,
        cross_fitted: Input | None = None,
        classifier: str = "tfidf_logreg",
        encoder: str = "auto",
        features: Sequence[str] = (),
        key: str = "id",
        text: str = "text",
        label: str = "tag",
        min_confidence: float | str = 0.0,
        at_least_one: bool | str = False,
        accept_precision: float | str = 0.95,
        dev_weight: float | str = 1.0,
        max_rows: int | str | None = None,
        seed: int | str = 0,
        **options: Any,
    ) -> None:
        parameters = {
            "classifier": classifier,
            "encoder": encoder,
            "features": texts_or_template("features", features, distinct_texts),
            "key": key,
            "text": text,
            "label": label,
            "min_confidence": min_confidence,
            "at_least_one": at_least_one,
            "accept_precision": accept_precision,
            "dev_weight": dev_weight,
            "max_rows": max_rows,
            "seed": seed,
        }
        inputs = {"messages": messages, "labels": labels, "dev": dev, "cross_fitted": cross_fitted}
        super().__init__(**self.options_of(options, inputs=inputs, parameters=parameters))


class EvaluateOperator(SharedStepOperator):
    """Evaluates a model on gold, next to the champion and plain baselines. Outputs: `report`, `scores`."""

    step = "kommuna.steps:evaluate"

    def __init__(
        self,
        *,
        model: Input,
        gold: Input,
        dev: Input,
        messages: Input,
        dev_only: Input | None = None,
        gold_labels: Input | None = None,
        champion: Input | None = None,
        gold_votes: Input | None = None,
        key: str = "id",
        text: str = "text",
        label: str = "tag",
        max_text_overlap: float | str = 0.05,
        slices: Mapping[str, str] | None = None,
        title: str = "Evaluation",
        **options: Any,
    ) -> None:
        inputs = {
            "model": model,
            "gold": gold,
            "dev": dev,
            "messages": messages,
            "dev_only": dev_only,
            "gold_labels": gold_labels,
            "champion": champion,
            "gold_votes": gold_votes,
        }
        parameters = {
            "key": key,
            "text": text,
            "label": label,
            "max_text_overlap": max_text_overlap,
            "slices": None if slices is None else dict(slices),
            "title": title,
        }
        super().__init__(**self.options_of(options, inputs=inputs, parameters=parameters))


class PredictOperator(SharedStepOperator):
    """Tags new messages with a model. Output: `predictions`."""

    step = "kommuna.steps:predict"

    def __init__(
        self,
        *,
        messages: Input,
        model: Input,
        key: str = "id",
        text: str = "text",
        batch_rows: int | str = 50_000,
        **options: Any,
    ) -> None:
        inputs = {"messages": messages, "model": model}
        parameters = {"key": key, "text": text, "batch_rows": batch_rows}
        super().__init__(**self.options_of(options, inputs=inputs, parameters=parameters))

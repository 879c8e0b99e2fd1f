"""Slices of gold: their figures, and what a gate may refuse by them."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from kommuna.errors import MissingColumn, SpecError
from kommuna.steps.registry.promote import verdict_of
from kommuna.steps.training.evaluate import Evaluated, evaluate
from kommuna.steps.training.train import Trained, train_classifier

SLICES = {"chat": "channel = 'chat'", "mail": "channel = 'mail'", "few": "id % 50 = 0", "none": "channel = 'fax'"}


@pytest.fixture(scope="module")
def trained(task: Any) -> Trained:
    return train_classifier(task.messages.lazy(), task.labels.lazy(), task.dev.lazy())


@pytest.fixture(scope="module")
def gold(task: Any) -> pl.DataFrame:
    """Gold rows of two channels; in one of them half of the rows have another tag than their words say."""
    mail = pl.Series(np.arange(task.gold.height) % 3 == 0)
    wrong = mail & pl.Series(np.arange(task.gold.height) % 2 == 0)
    other = pl.when(pl.col("tag") == "card").then(pl.lit("credit")).otherwise(pl.lit("card"))
    return task.gold.with_columns(
        channel=pl.when(mail).then(pl.lit("mail")).otherwise(pl.lit("chat")),
        tag=pl.when(wrong).then(other).otherwise("tag"),
    )


def judged(task: Any, trained: Trained, gold: pl.DataFrame, **options: Any) -> Evaluated:
    return evaluate(trained.model, gold.lazy(), task.dev.lazy(), task.messages.lazy(), **options)


def test_each_slice_has_its_figures_and_small_ones_are_not_judged(
    task: Any, trained: Trained, gold: pl.DataFrame
) -> None:
    found = judged(task, trained, gold, champion=trained.dev_only, slices=SLICES)
    of = {part.name: part for part in found.scores.slices}
    given = trained.model.predict_table(gold)["tag"].cast(pl.String)
    for name in ("chat", "mail"):
        rows = gold["channel"] == name
        assert of[name].accuracy == pytest.approx((given == gold["tag"]).filter(rows).mean())
        assert of[name].champion_accuracy is not None
    assert found.metrics["worst_slice.accuracy"] == of["mail"].accuracy
    assert of["few"].rows == 4
    assert not of["few"].judged
    assert of["few"].high - of["few"].low > 0.4
    assert (of["none"].rows, of["none"].accuracy) == (0, None)
    assert "channel = &#39;mail&#39;" in found.report.html


def test_the_worst_slice_refuses_a_model_that_is_good_on_average(
    task: Any, trained: Trained, gold: pl.DataFrame
) -> None:
    scores = judged(task, trained, gold, slices=SLICES).scores
    assert verdict_of("accuracy >= 0.75", scores).holds
    assert not verdict_of("accuracy >= 0.75 and worst_slice.accuracy >= 0.7", scores).holds
    assert verdict_of("accuracy.chat >= 0.9", scores).holds
    assert "accuracy.mail" in verdict_of("accuracy.mail >= 0.9", scores).reason
    assert not verdict_of("accuracy.none >= 0.1", scores).holds
    assert not verdict_of("worst_slice.accuracy > 0", judged(task, trained, gold).scores).holds


@pytest.mark.parametrize(
    ("slices", "error", "says"),
    [
        ({"a b": "id > 1"}, SpecError, "not a name of a slice"),
        ({"a": "id +"}, SpecError, "slice 'a'"),
        ({"a": "id + 1"}, SpecError, "not true or false"),
        ({"a": "canal = 'x'"}, MissingColumn, "canal"),
    ],
)
def test_a_slice_that_is_no_condition_over_gold_is_refused(
    task: Any, trained: Trained, gold: pl.DataFrame, slices: dict[str, str], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        judged(task, trained, gold, slices=slices)

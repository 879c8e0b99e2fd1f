"""Confidence: calibrated on held-out dev rows, and the probability from which tags are accepted without review."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax

from kommuna.steps.log_odds_calibration import LogOddsCalibration
from kommuna.steps.statistics import calibration_error
from kommuna.steps.training.confidence import (
    LEAST_ROWS,
    acceptance_of,
    calibrate,
    calibration_of,
    cross_fitted_error,
    predictions,
)
from kommuna.steps.training.evaluate import Evaluated, evaluate
from kommuna.steps.training.tagger import Tagger
from kommuna.steps.training.train import Trained, train_classifier


def overconfident(
    rows: int, *, tags: int = 5, factor: float = 3.0, spread: float = 1.5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Returns `n x k` probabilities whose logits are too large by a factor, and the tags that rows have."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=(rows, tags)) * spread
    p = softmax(scores, axis=1)
    right = (p.cumsum(axis=1) > random.random((rows, 1))).argmax(axis=1)
    truth = np.zeros((rows, tags), dtype=bool)
    truth[np.arange(rows), right] = True
    return softmax(factor * scores, axis=1).astype(np.float32), truth


def error(p: np.ndarray, truth: np.ndarray, *, several: bool = False) -> float:
    return calibration_error(*predictions(p, truth, several=several))


@pytest.mark.parametrize("factor", [0.4, 3.0])
def test_calibration_on_some_rows_holds_on_others(factor: float) -> None:
    dev, new = overconfident(1_000, factor=factor), overconfident(20_000, factor=factor, seed=1)
    calibration = calibration_of(*dev, several=False)
    assert calibration is not None
    assert error(*new) > 0.1
    assert error(calibrate(new[0], calibration, several=False), new[1]) < 0.035
    fold = np.arange(1_000) % 5
    assert cross_fitted_error(*dev, fold, several=False) < 0.05


def test_several_tags_are_calibrated_one_by_one() -> None:
    random = np.random.default_rng(0)
    odds = random.normal(-2, 1.5, (3_000, 4))
    truth = random.random(odds.shape) < 1 / (1 + np.exp(-odds))
    p = (1 / (1 + np.exp(-3 * odds))).astype(np.float32)
    calibration = calibration_of(p[:500], truth[:500], several=True)
    assert calibration is not None
    assert error(p, truth, several=True) > 0.08
    assert error(calibrate(p, calibration, several=True), truth, several=True) < 0.02


def test_few_dev_rows_calibrate_and_accept_nothing() -> None:
    p, truth = overconfident(LEAST_ROWS - 1)
    assert calibration_of(p, truth, several=False) is None
    assert acceptance_of(p.max(axis=1), truth.any(axis=1), precision=0.9) is None


@given(
    arrays(np.float32, (7, 4), elements=st.floats(-60, 60, width=32)),
    st.floats(0, 5),
    st.floats(-5, 5),
)
def test_calibrated_rows_sum_to_one_and_keep_their_tag(scores: np.ndarray, slope: float, shift: float) -> None:
    p = softmax(scores, axis=1).astype(np.float32)
    found = calibrate(p, LogOddsCalibration(slope, shift), several=False)
    assert found.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert (found >= 0).all()
    assert (found.argmax(axis=1) == p.argmax(axis=1)).all()


def test_the_threshold_keeps_the_wanted_precision_on_new_rows_on_average() -> None:
    kept, shares = [], []
    new, truth = overconfident(20_000, spread=3.0, seed=99)
    confidence, right = predictions(new, truth, several=False)
    for seed in range(30):
        dev = predictions(*overconfident(500, spread=3.0, seed=seed), several=False)
        found = acceptance_of(*dev, precision=0.9)
        assert found is not None
        assert found.min_confidence is not None
        accepted = confidence >= found.min_confidence
        kept.append(right[accepted].mean())
        shares.append(accepted.mean())
    assert np.mean(kept) == pytest.approx(0.9, abs=0.01)
    assert np.mean(shares) > 0.45  # .53 with the threshold that is best on the new rows


def test_where_no_threshold_has_the_precision_nothing_is_accepted() -> None:
    random = np.random.default_rng(0)
    found = acceptance_of(random.random(500), random.random(500) < 0.5, precision=0.95)
    assert found is not None
    assert found.min_confidence is None
    assert found.coverage == 0


def test_equal_confidences_are_accepted_together() -> None:
    right = np.array([True] * 150 + [False] * 50)
    found = acceptance_of(np.full(200, 0.9), right, precision=0.9)
    assert found is not None
    assert found.min_confidence is None


def contradicted(table: pl.DataFrame, share: float, seed: int) -> pl.DataFrame:
    """Gives a share of the rows another tag, so that no tagger is right about all."""
    random = np.random.default_rng(seed)
    other = pl.Series(random.choice(["card", "credit", "вклад"], table.height))
    return table.with_columns(tag=pl.when(pl.Series(random.random(table.height) < share)).then(other).otherwise("tag"))


@pytest.fixture(scope="module")
def task(make_task: Callable[..., Any]) -> Any:
    """Messages of which some mean something else than their words say: a tagger is surer than it is right."""
    made = make_task(600, 200, accuracy=0.75)
    return replace(made, dev=contradicted(made.dev, 0.15, 1), gold=contradicted(made.gold, 0.15, 2))


@pytest.fixture(scope="module")
def trained(task) -> Trained:
    return train_classifier(task.messages.lazy(), task.labels.lazy(), task.dev.lazy(), accept_precision=0.8)


@pytest.fixture(scope="module")
def judged(task, trained: Trained) -> Evaluated:
    return evaluate(trained.model, task.gold.lazy(), task.dev.lazy(), task.messages.lazy())


def test_the_calibration_is_part_of_the_model(task, trained: Trained, tmp_path: Path) -> None:
    model = trained.model
    assert model.calibration is not None
    assert model.acceptance is not None
    assert model.acceptance.precision == 0.8
    model.save(tmp_path / "model")
    loaded = Tagger.load(tmp_path / "model")
    assert loaded.predict_table(task.gold).equals(model.predict_table(task.gold))
    raw = model.uncalibrated(task.gold)
    assert (raw.argmax(axis=1) == model.probabilities(task.gold).argmax(axis=1)).all()
    assert not np.allclose(raw, model.probabilities(task.gold), atol=1e-3)
    assert {"held_out_ece", "held_out_ece_before", "held_out_accepted"} <= trained.metrics.keys()


def test_accepted_rows_are_those_above_the_learned_confidence(task, trained: Trained) -> None:
    model = trained.model
    assert model.acceptance is not None
    table = model.predict_table(task.gold)
    least = model.acceptance.min_confidence
    assert least is not None
    accepted = (table["decision"] == "accepted").to_numpy()
    assert accepted.any()
    assert (accepted == (table["confidence"].to_numpy() >= np.float32(least))).all()


def test_the_report_shows_the_promise_and_the_curve_before_and_after(task, trained: Trained, judged: Evaluated) -> None:
    promise = judged.scores.promise
    assert promise is not None
    table = trained.model.predict_table(task.gold)
    accepted = (table["decision"] == "accepted").to_numpy()
    right = (table["tag"].cast(pl.String) == task.gold["tag"]).to_numpy()
    assert judged.metrics["accepted"] == pytest.approx(accepted.mean())
    assert judged.metrics["accepted_precision"] == pytest.approx(right[accepted].mean())
    assert promise.low is not None
    assert promise.high is not None
    assert promise.low < judged.metrics["accepted_precision"] <= promise.high
    html = judged.report.html
    assert f"At precision 80% the model keeps {promise.coverage:.1%} of the rows" in html
    assert "share right, before calibration" in html
    assert "Before calibration" in html
    raw = trained.model.uncalibrated(task.gold)
    assert judged.metrics["ece_before"] == pytest.approx(
        calibration_error(
            raw.max(axis=1), np.asarray(trained.model.tags)[raw.argmax(axis=1)] == task.gold["tag"].to_numpy()
        )
    )


def test_a_model_of_few_dev_rows_says_that_it_is_not_calibrated(make_task) -> None:
    task = make_task(300, 60)
    model = train_classifier(task.messages.lazy(), task.labels.lazy(), task.dev.lazy()).model
    assert model.calibration is None
    found = evaluate(model, task.gold.lazy(), task.dev.lazy(), task.messages.lazy())
    assert found.metrics["accepted"] == 0
    assert "accepted_precision" not in found.metrics
    assert np.isnan(found.scores.figures()["accepted_precision"])  # so that a gate over it does not hold
    assert "too few dev rows to learn a threshold" in found.report.html
    assert "The model is not calibrated" in found.report.html


def test_the_tags_of_several_are_those_without_calibration(several_task) -> None:
    tables = several_task.messages.lazy(), several_task.labels.lazy(), several_task.dev.lazy()
    found = train_classifier(*tables, accept_precision=0.8)
    model = found.model
    assert model.calibration is not None
    plain = train_classifier(*(table.head(99) if table is tables[2] else table for table in tables)).model
    assert plain.calibration is None
    p = model.probabilities(several_task.gold)
    cut = np.asarray(model.thresholds)
    slope, shift = model.calibration.slope, model.calibration.shift
    back = 1 / (1 + np.exp(-(np.log(cut / (1 - cut)) - shift) / slope))
    assert (model.chosen(p) == (model.uncalibrated(several_task.gold) >= back.astype(np.float32))).all()
    table = model.predict_table(several_task.gold)
    assert set(table["decision"].unique()) <= {"accepted", "review"}
    accepted = (table["decision"] == "accepted").to_numpy()
    assert not (table["tags"].list.len().to_numpy()[accepted] == 0).any()


def test_many_messages_do_not_make_the_calibration_too_confident(make_task: Callable[..., Any]) -> None:
    """The models of the folds see fewer messages than the final one, and would be calibrated for less confident scores."""
    made = make_task(5_000, 400, accuracy=0.7)
    dev, gold = contradicted(made.dev, 0.2, 1), contradicted(made.gold, 0.2, 2)
    found = train_classifier(made.messages.lazy(), made.labels.lazy(), dev.lazy())
    p = found.model.probabilities(gold)
    truth = np.stack([gold["tag"].to_numpy() == tag for tag in found.model.tags], axis=1)
    assert error(p, truth) < 0.06

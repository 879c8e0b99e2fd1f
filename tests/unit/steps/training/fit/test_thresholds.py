"""From which probability a row gets a tag."""

from __future__ import annotations

import numpy as np
import pytest

from kommuna.steps.training.fit.thresholds import thresholds


def case(rows: int, share: list[float], *, seed: int, bias: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores that know the truth somewhat, and are too low by `bias`."""
    random = np.random.default_rng(seed)
    truth = random.random((rows, len(share))) < share
    known = np.log(np.array(share)) - np.log1p(-np.array(share))
    scores = known + 4.0 * truth + random.normal(0, 1, truth.shape) - bias
    return scores.astype(np.float32), truth.astype(np.float32)


def f1(scores: np.ndarray, truth: np.ndarray, given_from: tuple[float, ...]) -> float:
    predicted, true = 1 / (1 + np.exp(-scores)) >= np.array(given_from), truth > 0.5
    return float((2 * (predicted & true).sum(axis=0) / (predicted.sum(axis=0) + true.sum(axis=0))).mean())


def test_without_held_out_rows_a_rare_tag_has_a_lower_threshold_than_a_common_one() -> None:
    rare, common = thresholds(None, np.zeros((5, 2), np.float32), np.array([0.02, 0.5]))
    assert rare == pytest.approx(0.125)
    assert common == pytest.approx(0.5)


def test_tags_with_few_rows_use_the_common_threshold() -> None:
    """Thirty tags have three dev rows each: no tag's own rows tell how far its scores are off."""
    share = [0.03] * 30
    scores, truth = case(100, share, seed=0, bias=1.5)
    unseen, unseen_truth = case(5000, share, seed=1, bias=1.5)
    found = thresholds(scores, truth, np.array(share))
    best = max(f1(unseen, unseen_truth, (t,) * 30) for t in np.linspace(0.02, 0.6, 59))
    assert f1(unseen, unseen_truth, found) > best - 0.03
    assert f1(unseen, unseen_truth, found) > f1(unseen, unseen_truth, (0.5,) * 30) + 0.1


def test_a_tag_with_many_rows_deviates_from_the_common_threshold() -> None:
    share = [0.3] * 6
    scores, truth = case(2000, share, seed=2, bias=0.0)
    scores[:, 0] -= 2.0
    found = thresholds(scores, truth, np.array(share))
    assert found[0] < min(found[1:]) - 0.05


def test_dev_rows_without_any_tag_are_no_error() -> None:
    found = thresholds(np.zeros((40, 3), np.float32), np.zeros((40, 3), np.float32), np.zeros(3))
    assert all(0 < t < 0.5 for t in found)

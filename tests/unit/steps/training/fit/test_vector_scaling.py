"""Calibration on held-out rows: the factor and the shifts that made the labels come back."""

import numpy as np
import pytest
from scipy.special import expit, softmax

from kommuna.steps.training.fit.soft_logistic import Link
from kommuna.steps.training.fit.vector_scaling import Scaling, fit


def _drawn(
    random: np.random.Generator, rows: int, factor: float, shift: list[float], link: Link
) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and labels drawn from what they mean once scaled."""
    scores = random.normal(0, 2, (rows, len(shift)))
    z = factor * scores + np.array(shift)
    if link == "sigmoid":
        labels = random.random(z.shape) < expit(z)
    else:
        picked = (random.random(rows)[:, None] > softmax(z, axis=1).cumsum(axis=1)[:, :-1]).sum(axis=1)
        labels = np.eye(len(shift))[picked]
    return scores.astype(np.float32), labels.astype(np.float32)


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_the_scaling_that_generated_the_labels_is_recovered(link: Link) -> None:
    scores, labels = _drawn(np.random.default_rng(0), 50_000, 0.5, [0.0, 1.0, -2.0], link)
    scaling, _ = fit(scores, labels, link)
    assert scaling.shift is not None
    assert scaling.factor == pytest.approx(0.5, abs=0.02)
    assert scaling.shift - scaling.shift[0] == pytest.approx([0.0, 1.0, -2.0], abs=0.1)


def test_the_shift_corrects_a_wrong_share_of_a_rare_tag() -> None:
    scores, labels = _drawn(np.random.default_rng(1), 20_000, 1.0, [0.0, -3.0], "softmax")
    _, right = fit(scores, labels, "softmax")
    _, wrong = fit(scores + np.float32([0, 5]), labels, "softmax")
    assert wrong == pytest.approx(right, abs=1e-3)


def test_few_rows_shift_little() -> None:
    scores = np.zeros((4, 2), np.float32)
    scaling, _ = fit(scores, np.float32([[1, 0]] * 4), "softmax")
    assert scaling.shift is not None
    assert expit(float(scaling.shift[0] - scaling.shift[1])) < 0.9  # four of four rows


def test_without_rows_nothing_is_scaled() -> None:
    scores = np.float32([[1.0, -1.0]])
    assert Scaling().of(scores) == pytest.approx(scores)

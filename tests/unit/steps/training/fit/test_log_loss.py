"""The log loss of scores, and the two faster forms of it: the same figure as scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from kommuna.steps.labeling.models import calibration
from kommuna.steps.training.fit import soft_logistic
from kommuna.steps.training.fit.soft_logistic import Link, log_losses, probabilities

ROWS, TAGS = 60, 5
RANDOM = np.random.default_rng(3)
SCORES = RANDOM.normal(0, 2, (ROWS, TAGS)).astype(np.float32)
TAG = np.arange(ROWS) % TAGS
ONE = np.eye(TAGS, dtype=np.float32)[TAG]
SEVERAL = (RANDOM.random((ROWS, TAGS)) < 0.3).astype(np.float32)


def expected(link: Link) -> float:
    """The mean loss of a row by scikit-learn."""
    p = probabilities(SCORES, link).astype(np.float64)
    if link == "softmax":
        return float(log_loss(TAG, p, labels=range(TAGS)))
    return float(sum(log_loss(SEVERAL[:, tag], p[:, tag], labels=[0, 1]) for tag in range(TAGS)))


@pytest.mark.parametrize(("link", "labels"), [("softmax", ONE), ("sigmoid", SEVERAL)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_loss_of_scores_is_that_of_scikit_learn(link: Link, labels: soft_logistic.Matrix, dtype: type) -> None:
    losses = log_losses(SCORES.astype(dtype), labels, link).sum(axis=1)
    assert losses.dtype == dtype
    assert losses.mean() == pytest.approx(expected(link), rel=1e-5)


@pytest.mark.parametrize(("link", "labels"), [("softmax", ONE), ("sigmoid", SEVERAL)])
def test_the_optimisers_loss_is_the_same_one(link: Link, labels: soft_logistic.Matrix) -> None:
    losses, _ = soft_logistic._LOSSES[link](SCORES.copy(), labels)
    np.testing.assert_allclose(losses, log_losses(SCORES, labels, link).sum(axis=1), rtol=1e-4, atol=1e-6)


def test_the_loss_for_each_sharpness_is_the_same_one() -> None:
    scores = SCORES.astype(np.float64)
    for sharpness, losses in zip(calibration._SHARPNESS, calibration._losses(scores, TAG), strict=True):
        np.testing.assert_allclose(losses, log_losses(sharpness * scores, ONE, "softmax").sum(axis=1), atol=1e-9)

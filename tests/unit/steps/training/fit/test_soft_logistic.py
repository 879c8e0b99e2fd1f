"""The solver against scikit-learn's, and against the optimum's own equations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix, random_array
from sklearn.linear_model import LogisticRegression

from kommuna.steps.training.fit import soft_logistic
from kommuna.steps.training.fit.soft_logistic import RowSpace, log_losses, probabilities


def _rows(n: int, p: int, seed: int) -> csr_matrix:
    return csr_matrix(random_array((n, p), density=0.3, rng=seed, dtype=np.float32))


def test_soft_labels_equal_scikit_learn_with_every_row_once_per_class() -> None:
    rows, random = _rows(80, 12, 0), np.random.default_rng(0)
    labels = random.dirichlet([0.5] * 3, 80).astype(np.float32)
    weights = random.uniform(0.2, 2, 80)
    ours = soft_logistic.fit(rows, labels, link="softmax", inverse_penalty=2.0, weights=weights, iterations=2000)
    # scikit-learn's loss is C * sum of weighted losses + |W|^2 / 2: the same up to the factor C sum w.
    repeated = rows.toarray().repeat(3, axis=0)
    theirs = LogisticRegression(C=2.0, tol=1e-8, max_iter=5000).fit(
        repeated, np.tile(np.arange(3), 80), sample_weight=(labels * weights[:, None]).ravel()
    )
    ours_p = probabilities(ours.scores(rows), "softmax")
    assert np.abs(ours_p - theirs.predict_proba(rows.toarray())).max() < 0.01


def test_marginals_equal_one_model_per_tag() -> None:
    rows, random = _rows(120, 10, 1), np.random.default_rng(1)
    labels = (random.random((120, 2)) < 0.4).astype(np.float32)
    ours = soft_logistic.fit(rows, labels, link="sigmoid", inverse_penalty=1.5, iterations=2000)
    ours_p = probabilities(ours.scores(rows), "sigmoid")
    for j in range(2):
        one = LogisticRegression(C=1.5, tol=1e-8, max_iter=5000).fit(rows.toarray(), labels[:, j])
        assert np.abs(ours_p[:, j] - one.predict_proba(rows.toarray())[:, 1]).max() < 0.01


def test_the_coordinates_of_few_rows_give_the_same_model_as_the_features() -> None:
    rows, random = _rows(30, 400, 2), np.random.default_rng(2)
    labels = np.eye(3, dtype=np.float32)[random.integers(0, 3, 30)]
    space = RowSpace(rows)
    assert space.coordinates.shape[1] <= 30
    small = space.lift(soft_logistic.fit(space.coordinates, labels, link="softmax", inverse_penalty=5, iterations=2000))
    full = soft_logistic.fit(rows, labels, link="softmax", inverse_penalty=5.0, iterations=2000)
    other = _rows(50, 400, 3)
    assert (
        np.abs(probabilities(small.scores(other), "softmax") - probabilities(full.scores(other), "softmax")).max()
        < 0.01
    )


def test_an_offset_pulls_the_model_towards_it() -> None:
    rows = _rows(40, 20, 4)
    labels = np.eye(2, dtype=np.float32)[np.random.default_rng(4).integers(0, 2, 40)]
    pull = np.tile(np.array([5, -5], dtype=np.float32), (40, 1))
    shy = soft_logistic.fit(rows, labels, link="softmax", inverse_penalty=1e-4, offset=pull)
    assert np.abs(shy.coef).max() < 0.01


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_a_product_by_blocks_equals_the_product(link: soft_logistic.Link) -> None:
    rows, other = _rows(3000, 200, 5), np.random.default_rng(5).random((200, 30), dtype=np.float32)
    assert np.array_equal(soft_logistic._product(rows, other), rows @ other)
    assert probabilities(rows[:5] @ other, link).shape == (5, 30)


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_batches_come_near_the_optimum_and_do_not_depend_on_threads(link: soft_logistic.Link, monkeypatch) -> None:
    rows, random = (
        csr_matrix(random_array((30_000, 300), density=0.03, rng=5, dtype=np.float32)),
        np.random.default_rng(5),
    )
    truth = soft_logistic.Linear(random.normal(0, 3, (300, 4)).astype(np.float32), np.zeros(4, np.float32))
    labels = probabilities(truth.scores(rows), link)
    quick = soft_logistic.fit_in_batches(rows, labels, link=link, seed=0)
    zero = soft_logistic.Linear(0 * truth.coef, truth.intercept)
    none, least = (log_losses(model.scores(rows), labels, link).sum(axis=1).mean() for model in (zero, truth))
    assert log_losses(quick.scores(rows), labels, link).sum(axis=1).mean() < least + 0.05 * (none - least)
    monkeypatch.setattr(soft_logistic, "_THREADS", 1)
    again = soft_logistic.fit_in_batches(rows, labels, link=link, seed=0)
    assert np.array_equal(again.coef, quick.coef)

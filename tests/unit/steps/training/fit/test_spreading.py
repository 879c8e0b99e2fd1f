"""Label spreading, beside scikit-learn's and by its properties."""

from __future__ import annotations

import numpy as np
import pytest

from kommuna.steps.training.fit.spreading import ALPHA, NEIGHBOURS, WIDTH, neighbours, spread


def unit(n: int = 60, p: int = 8, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, p)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def probabilities(n: int, k: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(k), size=n).astype(np.float32)


def test_the_graph_equals_the_formula() -> None:
    rows = unit()
    cosine = rows @ rows.T
    np.fill_diagonal(cosine, -np.inf)
    nearest = cosine >= np.sort(cosine, axis=1)[:, -NEIGHBOURS, None]
    weight = np.where(nearest | nearest.T, np.exp((cosine - 1) / WIDTH), 0)
    root = np.sqrt(weight.sum(axis=1))
    assert np.abs(neighbours(rows).toarray() - weight / root / root[:, None]).max() < 1e-4


def test_the_iteration_equals_the_closed_form() -> None:
    rows, beliefs = unit(), probabilities(60, 3)
    graph = neighbours(rows)
    found = spread(graph, beliefs, np.ones(60, dtype=bool))
    exact = np.linalg.inv(np.eye(60) - ALPHA * graph.toarray()) @ beliefs
    exact /= exact.sum(axis=1, keepdims=True)
    assert np.abs(found - exact).max() < 0.03  # what ALPHA ** ITERATIONS leaves
    assert np.abs(found.sum(axis=1) - 1).max() < 1e-5


def test_it_equals_scikit_learn_from_a_few_labeled_rows() -> None:
    from sklearn.semi_supervised import LabelSpreading

    truth = np.arange(200) % 2
    rows = unit(200, 6)
    rows[:, 0] += np.where(truth, 1.5, -1.5)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    known = np.arange(200) < 6
    lies = np.eye(2, dtype=np.float32)[np.where(known, truth, 1 - truth)]  # of rows that are not known: none is heard
    found = spread(neighbours(rows), lies, known).argmax(axis=1)
    library = LabelSpreading(kernel="knn", n_neighbors=5, alpha=ALPHA).fit(rows, np.where(known, truth, -1))
    assert (found == truth).mean() >= library.score(rows, truth) - 0.05
    assert (found == truth).mean() > 0.9


def test_a_wrong_label_is_outvoted_by_its_neighbours() -> None:
    truth = np.arange(100) // 50
    rows = np.eye(2, 12, dtype=np.float32)[truth] + 0.15 * unit(100, 12)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    noisy = np.where(np.random.default_rng(2).random(100) < 0.2, 1 - truth, truth)
    beliefs = np.where(np.eye(2, dtype=bool)[noisy], 0.8, 0.2).astype(np.float32)
    found = spread(neighbours(rows), beliefs, np.ones(100, dtype=bool))
    assert (noisy == truth).mean() < 0.9
    assert (found.argmax(axis=1) == truth).mean() > 0.97


def test_unlabeled_rows_only_pass_labels_on() -> None:
    rows, beliefs = unit(), probabilities(60, 3)
    known = np.arange(60) % 3 > 0
    other = np.where(known[:, None], beliefs, probabilities(60, 3, seed=5))
    graph = neighbours(rows)
    assert np.array_equal(spread(graph, beliefs, known), spread(graph, other, known))


@pytest.mark.parametrize("rows", [unit(0), unit(1), unit(2), np.repeat(unit(1), 9, axis=0)])
def test_few_rows_and_equal_rows(rows: np.ndarray) -> None:
    beliefs = probabilities(len(rows), 3)
    found = spread(neighbours(rows), beliefs, np.ones(len(rows), dtype=bool))
    assert found.shape == beliefs.shape
    assert np.isfinite(found).all()
    if len(rows) == 1:
        assert np.allclose(found, beliefs)
    elif len(rows):
        assert np.ptp(found, axis=0).max() < 0.8 * np.ptp(beliefs, axis=0).max()

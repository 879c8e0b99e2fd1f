"""Statistics compared with published values and with libraries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as peer

from kommuna.steps.statistics import TagCounts, bootstrap, calibration_bins, calibration_error, folds, macro_f1, wilson
from kommuna.steps.training.evaluation.scores import quality

TWO = st.integers(1, 12).flatmap(lambda n: st.tuples(*[arrays(bool, (n, 4))] * 2))


def test_wilson_agrees_with_the_published_interval() -> None:
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29 (95 %, score method without correction).
    for (right, rows), low, high in [
        ((81, 263), 0.2553, 0.3662),
        ((15, 148), 0.0624, 0.1605),
        ((0, 20), 0.0, 0.1611),
        ((1, 29), 0.0061, 0.1718),
    ]:
        assert wilson(right, rows) == pytest.approx((low, high), abs=5e-5)


@settings(deadline=None)
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_equals_that_of_scipy(counts: tuple[int, int]) -> None:
    from scipy.stats import binomtest

    right, of = counts
    theirs = binomtest(right, of).proportion_ci(0.95, method="wilson")
    assert wilson(right, of) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@settings(deadline=None)
@given(TWO)
def test_metrics_per_tag_equal_those_of_scikit_learn(both: Any) -> None:
    chosen, truth = both
    there = np.flatnonzero((chosen | truth).any(axis=0))
    found = quality(truth, chosen, several=True)
    assert found["f1_macro"] == macro_f1(chosen, truth)
    if not len(there):
        assert found["f1_macro"] == found["f1_micro"] == 0
        return
    for figure, score in (("f1", peer.f1_score), ("precision", peer.precision_score), ("recall", peer.recall_score)):
        options = {"labels": there, "average": "macro", "zero_division": 0}
        assert found[f"{figure}_macro"] == pytest.approx(score(truth, chosen, **options))
    assert found["f1_micro"] == pytest.approx(peer.f1_score(truth, chosen, average="micro", zero_division=0))


def test_a_predicted_tag_that_no_row_has_counts() -> None:
    a, b = [True, False, False], [False, True, False]  # a third tag is neither given nor true
    assert macro_f1(np.array([a, b]), np.array([a, a])) == pytest.approx(1 / 3)


@settings(deadline=None)
@given(TWO)
def test_drawing_every_row_once_gives_the_metrics_of_the_rows(both: Any) -> None:
    chosen, truth = both
    whole, drawn = TagCounts.of(chosen, truth), TagCounts.of(chosen, truth, np.ones((2, len(truth))))
    assert drawn.f1 == pytest.approx(np.stack([whole.f1] * 2))
    assert drawn.macro(drawn.f1) == pytest.approx([macro_f1(chosen, truth)] * 2)
    assert (whole + whole - whole).f1 == pytest.approx(whole.f1)


def test_the_calibration_error_of_known_bins() -> None:
    # 4 answers at .95 of which 3 are right, 4 at .65 of which 1 is right; 1 has no interval of its own.
    confidence = np.array([0.95] * 4 + [0.65] * 4 + [1.0], dtype=np.float32)
    right = np.array([True, True, True, False, True, False, False, False, True])
    sure, share, rows = calibration_bins(confidence, right)
    assert rows.tolist() == [4, 5]
    assert sure == pytest.approx([0.65, (4 * 0.95 + 1) / 5])
    assert share == pytest.approx([0.25, 0.8])
    assert calibration_error(confidence, right) == pytest.approx((4 * 0.4 + 5 * abs(4.8 / 5 - 0.8)) / 9)
    assert calibration_error(np.zeros(0), np.zeros(0, dtype=bool)) == 0


@given(st.integers(0, 40), st.integers(1, 12), st.integers(0, 5))
def test_folds_are_of_equal_size(rows: int, count: int, seed: int) -> None:
    fold = folds(rows, count, seed=seed)
    sizes = np.bincount(fold, minlength=min(count, max(rows, 1)))
    assert sizes.sum() == rows
    assert len(sizes) <= count
    assert sizes.max(initial=0) - sizes.min(initial=rows) <= 1


@given(arrays(np.int64, st.integers(1, 60), elements=st.integers(0, 5)), st.integers(1, 10))
def test_stratified_folds_spread_each_stratum_evenly(strata: Any, count: int) -> None:
    fold = folds(len(strata), count, seed=0, strata=strata)
    for number in np.unique(strata):
        sizes = np.bincount(fold[strata == number], minlength=min(count, len(strata)))
        assert sizes.max() - sizes.min() <= 1


def test_the_bootstrap_is_reproducible_by_its_seed() -> None:
    one, again = (np.concatenate(list(bootstrap(7, draws=60, seed=3))) for _ in range(2))
    assert one.shape == (60, 7)
    assert np.array_equal(one, again)

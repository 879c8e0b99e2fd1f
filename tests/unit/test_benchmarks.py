"""The benchmark of label models compares fairly, and `make bench NAME` runs that benchmark."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from tests.benchmarks._label_model_bars import bars
from tests.benchmarks._label_model_runs import NO_DEV, Scores
from tests.benchmarks._label_model_scores import DEFAULT, MAJORITY, OURS, Score, scores
from tests.benchmarks._paired import Comparison, Difference
from tests.benchmarks._vote_grid import DEV_ROWS, Point, draw, quick_grid, whole_grid
from tests.benchmarks._weak_data import Split

ROOT = Path(__file__).resolve().parent.parent.parent
ADVERSE = Point(2, 0.1, "one-sided", "adverse", 33, False, 4000)


def test_make_bench_takes_names() -> None:
    command = ["make", "-n", "bench", "label_models", "parsing"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "-m tests.benchmarks label_models parsing\n" in done.stdout
    assert "Nothing to be done" not in done.stdout


def test_adverse_rules_are_ten_to_one_against_the_rare_tag() -> None:
    assert np.bincount(ADVERSE.rule_tags).tolist() == [30, 3]
    assert ADVERSE.tag_shares == pytest.approx([0.9, 0.1])
    assert Point(5, 0.02, "one-sided", "proportional", 5, False, 10).rule_tags.tolist() == [0, 1, 2, 3, 4]


def test_the_whole_grid_covers_the_documented_range() -> None:
    grid = whole_grid()
    assert {p.rules for p in grid if p.tags == 2} == {3, 5, 33, 200, 2000}
    assert {p.rarest for p in grid if p.tags == 2} == {0.02, 0.05, 0.1, 0.3, 0.5}
    assert {(p.side, p.copies) for p in grid} == {(s, c) for s in ("one-sided", "two-sided") for c in (False, True)}
    assert len({str(p) for p in grid}) == len(grid)  # figures are kept by this name
    assert DEV_ROWS == (0, 5, 20, 100, 1000)


@pytest.mark.parametrize("point", [p for p in quick_grid() if p.side == "one-sided"], ids=str)
def test_the_tag_of_a_one_sided_rule_is_more_frequent_where_it_votes(point: Point) -> None:
    drawn = draw(point, seed=0)
    fires = drawn.votes >= 0
    right = fires & (drawn.votes == drawn.truth[:, None])
    shares = np.bincount(drawn.truth, minlength=point.tags) / len(drawn.truth)
    precision = right.sum(axis=0) / np.maximum(fires.sum(axis=0), 1)
    assert np.mean(precision > shares[point.rule_tags]) > 0.95  # a rare tag's rule fires on few rows


def test_a_draw_depends_only_on_its_point_and_seed() -> None:
    point = Point(2, 0.1, "two-sided", "any tag", 33, True, 4000)
    once, again, other = draw(point, seed=1), draw(point, seed=1), draw(point, seed=2)
    assert np.array_equal(once.votes, again.votes)
    assert not np.array_equal(once.votes, other.votes)
    few, many = once.dev(5), once.dev(1000)
    assert once.dev(0) is None
    assert few is not None
    assert many is not None
    assert np.array_equal(few.votes, many.votes[:5])
    assert len(many) == 1000


def test_every_third_rule_copies_another_on_nine_rows_of_ten() -> None:
    for copies, least, most in ((True, 0.89, 0.97), (False, 0.2, 0.85)):
        votes = draw(Point(2, 0.1, "two-sided", "any tag", 33, copies, 4000), seed=1).votes
        alike = [max((votes[:, i] == votes[:, j]).mean() for i in range(33) if i % 3 != 2) for j in range(2, 33, 3)]
        assert least < min(alike) <= max(alike) < most


def test_the_interval_is_that_of_students_t() -> None:
    drawn = np.array([0.01, -0.03, 0.02, 0.0, -0.01])
    theirs = stats.ttest_1samp(drawn, 0).confidence_interval(0.95)
    ours = Difference.of(drawn)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert Difference.of(drawn[:1]).high == np.inf  # one draw proves nothing


def test_points_are_counted_by_mean_by_interval_and_beyond_chance() -> None:
    steady, shaky = np.array([-0.03, -0.031, -0.032]), np.array([0.2, -0.3, -0.05])
    found = Comparison.of({"a": steady, "b": shaky, "c": np.zeros(3), "d": np.array([np.nan] * 3)}, tolerance=0.02)
    assert found is not None
    assert (found.points, found.below, found.surely, found.beyond_chance, found.failed) == (3, 2, 1, 1, 1)
    assert found.worst_at == "b"


def _grid(*, majority: float, default: float, default_with_dev: float) -> Scores:
    grid = Scores({"one": "one-sided"})
    for noise in (0.0, 0.001, -0.001):
        for dev, ours in ((NO_DEV, default), ("20", default_with_dev)):
            grid.add([("one", dev, {DEFAULT: Score(ours + noise, ours), MAJORITY: Score(majority, majority)})])
    return grid


@pytest.mark.parametrize(
    ("default", "default_with_dev", "met"),
    [
        (0.91, 0.93, [True, True, True, True]),
        (0.87, 0.95, [False, True, True, True]),  # .03 below counting the votes, without dev rows
        (0.95, 0.92, [True, False, False, True]),  # dev rows cost .03
        (0.89, 0.90, [True, True, True, False]),  # counting the votes is better on the mean
    ],
)
def test_bars_are_met_or_not(default: float, default_with_dev: float, met: list[bool]) -> None:
    said = bars(_grid(majority=0.9, default=default, default_with_dev=default_with_dev))
    assert [line["met"] for line in said] == met


def test_a_significant_loss_counts_however_small() -> None:
    grid = Scores({"one": "one-sided"})
    for draw_ in np.random.default_rng(0).normal(0, 0.0001, 20):
        for dev, ours in ((NO_DEV, 0.95), ("20", 0.945 + draw_)):
            grid.add([("one", dev, {DEFAULT: Score(ours, ours), MAJORITY: Score(0.9, 0.9)})])
    assert [line["met"] for line in bars(grid)] == [True, True, False, True]


def test_ties_are_broken_alike_for_every_model_and_uncovered_rows_are_not_scored() -> None:
    votes = np.tile(np.array([[0, 1, -1], [-1, -1, -1]], dtype=np.int16), (2000, 1))
    rows = Split(votes, np.tile([1, 0], 2000))
    found = scores(votes, 2, rows, None, (MAJORITY, "weighted"))
    assert found[MAJORITY] == found["weighted"]
    assert found[MAJORITY].accuracy == pytest.approx(0.5, abs=0.03)


def test_every_model_is_scored_and_majority_equals_its_definition() -> None:
    drawn = draw(ADVERSE, seed=0)
    found = scores(drawn.votes, 2, Split(drawn.votes, drawn.truth), drawn.dev(100), OURS)
    assert set(found) == set(OURS)
    assert 0.85 < found[MAJORITY].accuracy < 0.97

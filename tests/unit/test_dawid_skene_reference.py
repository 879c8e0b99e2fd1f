"""The reference Dawid-Skene against figures of crowd-kit 1.4.2 on the same votes."""

from __future__ import annotations

import numpy as np
import pytest
from tests.rigs.dawid_skene import DawidSkeneReference

FREE = [
    [0.99999999, 0.0, 1e-08],
    [0.97494541, 0.01313972, 0.01191487],
    [0.99903341, 0.00096659, 0.0],
    [0.82869661, 0.17130308, 3.1e-07],
    [1e-08, 0.99999999, 0.0],
    [0.0, 1.0, 0.0],
]
GOLD = [
    [0.99999972, 0.0, 2.8e-07],
    [0.9774195, 0.01070751, 0.01187298],
    [0.99930902, 0.00069095, 3e-08],
    [0.85651961, 0.14346587, 1.452e-05],
    [0.00021274, 0.99978726, 0.0],
    [0.0, 1.0, 0.0],
]


@pytest.mark.parametrize(("gold_rows", "theirs"), [(0, FREE), (10, GOLD)])
def test_probabilities_equal_those_of_crowd_kit(gold_rows: int, theirs: list[list[float]]) -> None:
    random = np.random.default_rng(7)
    truth = random.choice(3, 60, p=[0.5, 0.3, 0.2])
    cast = np.where(random.random((60, 4)) < 0.7, truth[:, None], random.integers(0, 3, (60, 4)))
    votes = np.where(random.random((60, 4)) < 0.8, cast, -1).astype(np.int16)
    fit = DawidSkeneReference().fit(votes, 3, {row: int(truth[row]) for row in range(gold_rows)})
    assert fit.predict(votes[10:16]) == pytest.approx(np.array(theirs), abs=1e-8)


def test_rows_without_a_vote_do_not_matter() -> None:
    votes = np.array([[0, 1, 1], [1, 1, -1], [0, 0, 1], [0, -1, 0]], dtype=np.int16)
    with_silent = np.vstack([np.full((2, 3), -1, dtype=np.int16), votes])
    apart = DawidSkeneReference().fit(votes, 2, {1: 1}).predict(votes)
    assert DawidSkeneReference().fit(with_silent, 2, {0: 0, 3: 1}).predict(votes) == pytest.approx(apart)

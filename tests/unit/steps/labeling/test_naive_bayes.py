"""Joint outcomes: sparse and dense products give the same pairs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from kommuna.steps.labeling.models import naive_bayes
from kommuna.steps.labeling.models.naive_bayes import together


@pytest.mark.parametrize("share", [0.02, 0.6])
@pytest.mark.parametrize("at_once", [20, 4_000_000])
def test_joint_outcomes_equal_those_of_a_direct_count(
    monkeypatch: pytest.MonkeyPatch, share: float, at_once: int
) -> None:
    """Few cells are multiplied as a sparse matrix, many as a dense one, in blocks."""
    monkeypatch.setattr(naive_bayes, "_DENSE_BLOCK", at_once)
    random = np.random.default_rng(0)
    indicators = random.random((200, 15)) < share
    counts = random.integers(1, 5, 200).astype(float)
    one, other, rows = together(sparse.csr_array(indicators.astype(float)), counts)
    expected = {
        (a, b): counts[both].sum()
        for a in range(15)
        for b in range(a + 1, 15)
        if (both := indicators[:, a] & indicators[:, b]).sum() >= 3
    }
    assert dict(zip(zip(one.tolist(), other.tolist(), strict=True), rows.tolist(), strict=True)) == expected


@pytest.mark.parametrize("patterns", [0, 4])
def test_without_outcomes_there_are_no_joint_outcomes(patterns: int) -> None:
    one, other, rows = together(sparse.csr_array((patterns, 0)), np.ones(patterns))
    assert (len(one), len(other), len(rows)) == (0, 0, 0)

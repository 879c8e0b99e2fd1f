"""Correlation of two rules: the same figure in the rule report and in screening, which has it by counts."""

from __future__ import annotations

import numpy as np
import pytest

from kommuna.steps.labeling.refine.mining.screening import _correlation
from kommuna.steps.labeling.votes.correlation import correlation
from kommuna.steps.labeling.votes.patterns import VotePatterns


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_screening_and_the_report_find_the_same_correlation(share: float) -> None:
    random = np.random.default_rng(7)
    one = random.random(500) < share
    other = np.where(random.random(500) < 0.3, random.random(500) < 0.4, one)
    votes = np.where(np.column_stack([one, other]), 0, -1).astype(np.int16)
    each = np.arange(500, dtype=np.int32)
    found = correlation(VotePatterns(votes, np.ones(500, dtype=np.int64), each, ("a",), ("r", "s")))
    assert found.phi[0, 1] == pytest.approx(_correlation(one, other), abs=1e-12)

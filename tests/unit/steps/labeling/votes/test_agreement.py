"""Coverage, overlap and conflict: equal to Snorkel's, and defined for votes against tags too."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kommuna.steps.labeling.votes.agreement import agreement

MATRICES = st.lists(st.lists(st.integers(-1, 3), min_size=4, max_size=4), min_size=1, max_size=25)


@settings(deadline=None)
@given(MATRICES)
def test_figures_equal_those_of_the_analysis_of_snorkel(rows: list[list[int]]) -> None:
    from snorkel.labeling import LFAnalysis

    matrix = np.array(rows, dtype=np.int16)
    ours = agreement(matrix, np.ones(len(matrix), dtype=np.int64), k=4, multi_label=False)
    theirs = LFAnalysis(matrix.astype(int))
    n = len(matrix)
    assert np.allclose(ours.rule_covered / n, theirs.lf_coverages())
    assert np.allclose(ours.rule_overlaps / n, theirs.lf_overlaps())
    assert np.allclose(ours.rule_conflicts / n, theirs.lf_conflicts())
    shares = ours.shares()
    assert np.isclose(shares["coverage"], theirs.label_coverage())
    assert np.isclose(shares["overlap"], theirs.label_overlap())
    assert np.isclose(shares["conflict"], theirs.label_conflict())


def test_patterns_count_as_often_as_they_occur() -> None:
    one = agreement(np.array([[0, 1], [0, -1]], dtype=np.int16), np.array([3, 7]), k=2, multi_label=False)
    assert (one.rows, one.covered, one.overlapping, one.conflicting) == (10, 10, 3, 3)
    assert one.rule_covered.tolist() == [10, 3]


def test_a_vote_against_a_tag_conflicts_with_votes_for_it_only() -> None:
    k = 3
    against_0 = k + 0
    rows = np.array([[0, against_0], [1, against_0], [against_0, against_0], [against_0, k + 1]], dtype=np.int16)
    found = agreement(rows, np.ones(4, dtype=np.int64), k=k, multi_label=False)
    assert found.conflicting == 1
    assert found.rule_conflicts.tolist() == [1, 1]


def test_votes_for_two_tags_are_no_conflict_where_rows_may_have_multi_label() -> None:
    rows = np.array([[0, 1], [0, 3]], dtype=np.int16)
    assert agreement(rows, np.ones(2, dtype=np.int64), k=3, multi_label=True).conflicting == 1
    assert agreement(rows, np.ones(2, dtype=np.int64), k=3, multi_label=False).conflicting == 2

"""Summaries of rules from votes only, compared with Snorkel's `LFAnalysis`."""

import numpy as np
import polars as pl
import pytest
from snorkel.labeling import LFAnalysis

from kommuna.errors import DataError
from kommuna.steps.labeling.report.summary import rule_summary


@pytest.mark.parametrize("k", [2, 4])
def test_figures_equal_those_of_lfanalysis(k: int) -> None:
    random = np.random.default_rng(k)
    votes = random.integers(-1, k, (500, 7))
    votes[:, 2] = np.where(votes[:, 2] == 1, 1, -1)
    truth = random.integers(0, k, 500)
    ours = rule_summary(votes, truth)
    theirs = LFAnalysis(votes).lf_summary(truth)
    assert ours["rule"].to_list() == [f"rule_{j}" for j in range(7)]
    assert ours["votes_for"].to_list() == [[str(tag) for tag in tags] for tags in theirs["Polarity"]]
    for name, column in (("coverage", "Coverage"), ("overlap", "Overlaps"), ("conflict", "Conflicts"),
                         ("right", "Correct"), ("wrong", "Incorrect"), ("accuracy", "Emp. Acc.")):  # fmt: skip
        assert np.allclose(ours[name].to_numpy(), theirs[column].to_numpy()), name
    assert (ours["accuracy_low"] < ours["accuracy"]).all()


def test_rules_without_votes_and_unlabeled_rows_have_no_accuracy() -> None:
    votes = pl.DataFrame({"id": [1, 2, 3], "a": ["x", "!x", "y"], "b": pl.Series([None] * 3, dtype=pl.String)})
    table = rule_summary(votes, ["x", "x", None], tags=["x", "y"])
    assert table["votes_for"].to_list() == [["x", "y", "!x"], []]
    assert table.select("right", "wrong", "accuracy").rows() == [(1, 1, 0.5), (0, 0, None)]
    assert "right" not in rule_summary(votes, tags=["x", "y"]).columns
    with pytest.raises(DataError, match="3 rows of votes and 1 labels"):
        rule_summary(votes, ["x"], tags=["x", "y"])

"""The rule report: figures that are right, the worst rule first, a page that opens offline."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kommuna.errors import DataError
from kommuna.steps.labeling.label import label_messages
from kommuna.steps.labeling.matrix import from_matrix
from kommuna.steps.labeling.rule_figures import wilson
from kommuna.steps.labeling.rule_report import rule_report


@pytest.fixture
def case(rule_set: Any) -> dict[str, Any]:
    """Four rules on 200 rows: good (90 % right), bad (20 %), rare (one vote, wrong) and dead."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 200)
    matrix = np.full((200, 4), -1)
    matrix[:100, 0] = np.where(random.random(100) < 0.9, truth[:100], 1 - truth[:100])
    matrix[50:150, 1] = np.where(random.random(100) < 0.2, truth[50:150], 1 - truth[50:150])
    matrix[199, 2] = 1 - truth[199]
    rules = rule_set(
        *({"name": name, "tag": "no", "any": ["x"]} for name in ("good", "bad", "rare", "dead")), tags=["no", "yes"]
    )
    dev = pl.LazyFrame({"id": range(200), "tag": [["no", "yes"][t] for t in truth]})
    return {"rules": rules, "votes": from_matrix(matrix, rules).lazy(), "dev": dev, "matrix": matrix, "truth": truth}


def test_the_worst_rule_stands_first_and_a_rule_seen_once_does_not_outrank_it(case: Any) -> None:
    report, table, metrics = rule_report(case["votes"], case["rules"], None, case["votes"], case["dev"])
    assert table["rule"].to_list() == ["dead", "bad", "rare", "good"]
    assert table["flag"].to_list() == ["never votes", "", "", ""]
    assert (metrics["rules_never"], metrics["rules_poor"]) == (1, 1)
    assert "Look first at dead: it never votes." in report.html


def test_figures_are_those_of_the_matrix(case: Any) -> None:
    table = rule_report(case["votes"], case["rules"], None, case["votes"], case["dev"]).table
    matrix, truth = case["matrix"], case["truth"]
    for j, name in enumerate(("good", "bad", "rare")):
        row = table.row(by_predicate=pl.col("rule") == name, named=True)
        voted = matrix[:, j] >= 0
        assert row["coverage"] == voted.mean()
        assert row["dev_votes"] == voted.sum()
        assert row["accuracy"] == pytest.approx((matrix[voted, j] == truth[voted]).mean())
        assert row["accuracy_low"] < row["accuracy"] + 1e-12 < row["accuracy_high"] + 2e-12
    dead = table.row(by_predicate=pl.col("rule") == "dead", named=True)
    assert dead["accuracy"] is None


def test_agreement_with_the_labels_is_told(case: Any) -> None:
    labels = label_messages(case["votes"], case["rules"], case["votes"], case["dev"]).labels
    table = rule_report(case["votes"], case["rules"], labels, case["votes"], case["dev"]).table
    told = labels.collect()["tag"].cast(pl.String).to_list()
    votes = case["votes"].collect()
    for name in ("good", "bad"):
        pairs = [(v, t) for v, t in zip(votes[name], told, strict=True) if v is not None]
        agrees = table.row(by_predicate=pl.col("rule") == name, named=True)["agrees"]
        assert agrees == pytest.approx(np.mean([v == t for v, t in pairs]))


def test_without_dev_rows_the_report_says_what_it_does_not_know(case: Any) -> None:
    report, table, metrics = rule_report(case["votes"].drop("dead").with_columns(dead=None), case["rules"])
    assert table["accuracy"].null_count() == 4
    assert "dev_vote_accuracy" not in metrics
    plain = case["rules"].model_copy(update={"rules": case["rules"].rules[:2]})
    assert "nothing is known of the rules&#39; accuracy" in rule_report(case["votes"], plain).report.html
    assert report.html.count("<svg") == 1  # who votes with whom is known all the same


def test_votes_against_are_judged_as_such(rule_set: Any) -> None:
    rules = rule_set({"name": "r", "tag": "a", "any": ["x"], "against": True}, tags=["a", "b"])
    votes = pl.LazyFrame({"id": [1, 2, 3], "r": pl.Series(["!a", "!a", None], dtype=pl.Enum(["a", "b", "!a"]))})
    dev = pl.LazyFrame({"id": [1, 2, 3], "tag": ["b", "a", "a"]})
    row = rule_report(votes, rules, None, votes, dev).table.row(0, named=True)
    assert (row["vote"], row["dev_right"], row["dev_votes"]) == ("not a", 1, 2)


def test_a_rule_that_always_votes_is_marked(rule_set: Any) -> None:
    rules = rule_set({"name": "r", "tag": "a", "any": ["x"]}, {"name": "s", "tag": "b", "any": ["x"]})
    votes = from_matrix(np.array([[0, -1], [0, 1]]), rules).lazy()
    report, table, metrics = rule_report(votes, rules)
    assert table.row(0, named=True)["flag"] == "always votes"
    assert metrics["rules_always"] == 1
    assert "Look first at r: it always votes." in report.html


def test_the_page_is_whole_and_escapes_names(rule_set: Any) -> None:
    rules = rule_set({"name": "r", "tag": "<b>&", "any": ["x"]})
    votes = from_matrix(np.array([[0], [-1]]), rules).lazy()
    dev = pl.LazyFrame({"id": [0, 1], "tag": ["<b>&", "<b>&"]})
    html = rule_report(votes, rules, None, votes, dev).report.html
    assert "&lt;b&gt;&amp;" in html
    assert "<b>&" not in html
    assert html.count("<svg") == 2
    assert 'src="http' not in html


def test_labels_of_other_rows_are_refused(case: Any) -> None:
    labels = label_messages(case["votes"], case["rules"]).labels.with_columns(id=pl.col("id") + 1000)
    with pytest.raises(DataError, match="labels and votes are not of the same rows"):
        rule_report(case["votes"], case["rules"], labels)


@settings(deadline=None)
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_is_that_of_scipy(counts: tuple[int, int]) -> None:
    from scipy.stats import binomtest

    right, of = counts
    theirs = binomtest(right, of).proportion_ci(0.95, method="wilson")
    assert wilson(right, of) == pytest.approx((theirs.low, theirs.high), abs=1e-9)

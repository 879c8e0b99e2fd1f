"""The rule report: its figures, the order of rules, and the page."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from kommuna.errors import DataError
from kommuna.steps.labeling.label import label_messages
from kommuna.steps.labeling.report.ablation import Gains, gains
from kommuna.steps.labeling.report.errors import dev_texts, rule_errors, tag_figures
from kommuna.steps.labeling.rule_report import rule_report
from kommuna.steps.labeling.votes.correlation import correlation
from kommuna.steps.labeling.votes.label_matrix import from_matrix
from kommuna.steps.labeling.votes.labeled_votes import LabeledVotes
from kommuna.steps.labeling.votes.patterns import VotePatterns


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


def test_the_worst_rule_is_first_before_a_rule_with_a_single_vote(case: Any) -> None:
    report, table, metrics = rule_report(case["votes"], case["rules"], None, case["votes"], case["dev"])
    assert table["rule"].to_list() == ["dead", "bad", "rare", "good"]
    assert table["flag"].to_list() == ["never votes", "", "", ""]
    assert (metrics["rules_never"], metrics["rules_poor"]) == (1, 1)
    assert "Look first at dead: it never votes." in report.html


def test_figures_equal_those_computed_from_the_matrix(case: Any) -> None:
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


def test_agreement_with_the_labels_is_reported(case: Any) -> None:
    labels = label_messages(case["votes"], case["rules"], case["votes"], case["dev"]).labels
    table = rule_report(case["votes"], case["rules"], labels, case["votes"], case["dev"]).table
    tags = labels.collect()["tag"].cast(pl.String).to_list()
    votes = case["votes"].collect()
    for name in ("good", "bad"):
        pairs = [(v, t) for v, t in zip(votes[name], tags, strict=True) if v is not None]
        agrees = table.row(by_predicate=pl.col("rule") == name, named=True)["agrees"]
        assert agrees == pytest.approx(np.mean([v == t for v, t in pairs]))


def test_without_dev_rows_the_report_has_no_accuracy(case: Any) -> None:
    report, table, metrics = rule_report(case["votes"].drop("dead").with_columns(dead=None), case["rules"])
    assert table["accuracy"].null_count() == 4
    assert "dev_vote_accuracy" not in metrics
    plain = case["rules"].model_copy(update={"rules": case["rules"].rules[:2]})
    assert "nothing is known of the rules&#39; accuracy" in rule_report(case["votes"], plain).report.html
    assert report.html.count("<svg") == 1  # the correlation map


def test_a_vote_against_a_tag_is_right_where_the_row_has_another(rule_set: Any) -> None:
    rules = rule_set({"name": "r", "tag": "a", "any": ["x"], "against": True}, tags=["a", "b"])
    votes = pl.LazyFrame({"id": [1, 2, 3], "r": pl.Series(["!a", "!a", None], dtype=pl.Enum(["a", "b", "!a"]))})
    dev = pl.LazyFrame({"id": [1, 2, 3], "tag": ["b", "a", "a"]})
    row = rule_report(votes, rules, None, votes, dev).table.row(0, named=True)
    assert (row["vote"], row["dev_right"], row["dev_votes"]) == ("not a", 1, 2)


def test_a_rule_that_always_votes_is_flagged(rule_set: Any) -> None:
    rules = rule_set({"name": "r", "tag": "a", "any": ["x"]}, {"name": "s", "tag": "b", "any": ["x"]})
    votes = from_matrix(np.array([[0, -1], [0, 1]]), rules).lazy()
    report, table, metrics = rule_report(votes, rules)
    assert table.row(0, named=True)["flag"] == "always votes"
    assert metrics["rules_always"] == 1
    assert "Look first at r: it always votes." in report.html


def test_the_page_needs_no_network_and_escapes_names(rule_set: Any) -> None:
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


def test_the_gain_of_a_rule_is_the_accuracy_lost_without_it(case: Any) -> None:
    table = rule_report(case["votes"], case["rules"], None, case["votes"], case["dev"]).table
    gain = dict(table.select("rule", "gain").iter_rows())
    assert gain["good"] > 0.15  # only this rule votes on 50 rows, and is right on 90 % of them
    assert gain["dead"] == 0.0


def test_a_rule_that_is_nearly_always_wrong_is_weighed_as_evidence_against_its_tag(rule_set: Any) -> None:
    truth = np.array([0, 1] * 30)
    few = np.array([0, 1] * 2 + [1, 0] * 28)  # nearly always wrong
    matrix = np.stack([truth, truth, np.where(np.arange(60) < 30, few, -1)], axis=1)
    rules = rule_set(*({"name": n, "tag": "no", "any": ["x"]} for n in ("a", "b", "wrong")), tags=["no", "yes"])
    dev = LabeledVotes(matrix.astype(np.int16), np.eye(2, dtype=bool)[truth])
    assert gains(dev, [[0], [1], [2], [0, 1]], tags=rules.tags, multi_label=False).gain[3] > 0.3
    alone = LabeledVotes(matrix[:, [2]].astype(np.int16), dev.truth)
    assert gains(alone, [[0]], tags=rules.tags, multi_label=False).figure > 0.3  # reversed, its votes are informative


def test_the_gain_equals_that_of_a_refit_without_the_rule() -> None:
    random = np.random.default_rng(1)
    truth = random.integers(0, 3, 300)
    votes = np.where(random.random((300, 5)) < 0.7, truth[:, None], random.integers(0, 3, (300, 5)))
    votes = np.where(random.random((300, 5)) < 0.5, votes, -1).astype(np.int16)
    dev = LabeledVotes(votes, np.eye(3, dtype=bool)[truth])
    names = ("a", "b", "c")
    all_rules = gains(dev, [[j] for j in range(5)], tags=names, multi_label=False)
    for j in range(5):  # the refit has other folds, since they follow from the votes
        rest = gains(LabeledVotes(np.delete(votes, j, axis=1), dev.truth), [], tags=names, multi_label=False)
        assert all_rules.gain[j] == pytest.approx(all_rules.figure - rest.figure, abs=0.02)


def test_the_gain_is_in_micro_f1_where_rows_may_have_multi_label() -> None:
    votes = np.array([[0, 1], [0, -1], [2, 1], [-1, 3]] * 5, dtype=np.int16)  # the first is for a, the other for b
    truth = np.array([[1, 1], [1, 0], [0, 1], [0, 0]] * 5, dtype=bool)
    found = gains(LabeledVotes(votes, truth), [[0], [1], [0, 1]], tags=("a", "b"), multi_label=True)
    assert found.figure == 1.0
    assert found.gain[2] == 1.0
    assert found.gain[0] == pytest.approx(1 - 2 * 10 / (10 + 20))


def test_errors_have_masked_texts_and_those_that_no_rule_corrects_come_first(rule_set: Any) -> None:
    rules = rule_set(*({"name": n, "tag": "no", "any": ["x"]} for n in ("bad", "good")), tags=["no", "yes"])
    matrix = np.array([[0, 1]] * 3 + [[0, -1]] + [[-1, 1]] * 20)
    texts = ["put right", "put right", "again <b>", "call me on +7 921 123-45-67"] + [f"t{i}" for i in range(20)]
    dev = pl.LazyFrame({"id": range(24), "tag": ["yes"] * 24, "text": texts})
    votes = from_matrix(matrix, rules).lazy()
    report, _, _ = rule_report(votes, rules, None, votes, dev)
    truth = np.eye(2, dtype=bool)[np.ones(24, dtype=int)]
    found = rule_errors(
        LabeledVotes(matrix.astype(np.int16), truth),
        gains(LabeledVotes(matrix.astype(np.int16), truth), [], tags=rules.tags, multi_label=False),
        dev_texts(pl.Series("id", range(24)), dev, text="text", label="tag"),
        rules,
    )
    assert found.filter(pl.col("rule") == "good").is_empty()
    assert found["text"].to_list()[0] == "call me on [PHONE]"
    assert sorted(found["text"].to_list()[1:]) == ["again <b>", "put right"]  # no duplicates
    assert "921" not in report.html
    assert "again &lt;b&gt;" in report.html


def test_errors_of_rows_without_texts_are_shown_by_key(case: Any) -> None:
    html = rule_report(case["votes"], case["rules"], None, case["votes"], case["dev"]).report.html
    assert "<summary>bad: 10</summary>" in html  # ten of many
    assert '<a href="#errors-bad">bad</a>' in html


def test_groups_are_reported_together(case: Any) -> None:
    named = [
        rule.model_copy(update={"group": "g" if rule.name in ("good", "bad") else None}) for rule in case["rules"].rules
    ]
    rules = case["rules"].model_copy(update={"rules": tuple(named)})
    report, table, _ = rule_report(case["votes"], rules, None, case["votes"], case["dev"])
    assert table.filter(pl.col("group") == "g").height == 2
    assert "<h2>Groups</h2>" in report.html
    assert '<td class="">g</td><td class="number ">2</td><td class="number ">0.750</td>' in report.html


def test_correlation_equals_that_of_numpy_and_agreement_is_counted() -> None:
    votes = np.array([[0, 0, -1], [1, 0, -1], [-1, -1, 2], [0, 0, 0]], dtype=np.int16)
    counts = np.array([5, 2, 4, 1])
    row_pattern = np.repeat(np.arange(4, dtype=np.int32), counts)
    found = correlation(VotePatterns(votes, counts, row_pattern, ("a", "b", "c"), ("r", "s", "t")))
    expected = np.corrcoef((votes[row_pattern] >= 0).T.astype(float))
    assert np.allclose(found.phi, expected)
    assert found.together[0, 1] == 8
    assert found.agree[0, 1] == pytest.approx(6 / 8)


def test_a_rule_that_votes_always_or_never_has_no_correlation() -> None:
    votes = np.array([[0, -1, 0], [0, -1, -1]], dtype=np.int16)
    ones, rows = np.ones(2, dtype=np.int64), np.arange(2, dtype=np.int32)
    found = correlation(VotePatterns(votes, ones, rows, ("a",), ("r", "s", "t")))
    assert not found.phi[:2].any()


def test_with_very_many_rules_only_those_that_vote_most_are_compared(rule_set: Any) -> None:
    rules = rule_set(*({"name": f"r{j}", "tag": "a", "any": ["x"]} for j in range(1002)), tags=["a", "b"])
    matrix = np.full((20, 1002), -1)
    matrix[:10] = 0
    matrix[5:15, [1000, 1001]] = 1
    html = rule_report(from_matrix(matrix, rules).lazy(), rules).report.html
    assert "Rules that vote together (of the 1,000 that vote most)" in html
    pairs = html[html.index("The strongest pairs") :]
    assert pairs.index("r1001") < pairs.index("</table>")  # they vote on 15 rows each, the others on 10


def test_tags_are_shown_with_the_tags_they_are_confused_with(rule_set: Any) -> None:
    rules = rule_set({"name": "r", "tag": "a", "any": ["x"]}, tags=["a", "b"])
    dev = LabeledVotes(
        np.array([[0], [0], [0], [-1]], dtype=np.int16), np.array([[1, 0], [1, 0], [0, 1], [0, 1]], dtype=bool)
    )
    lines = tag_figures(dev, Gains(0.5, np.zeros(1), np.array([[0.9, 0.1]] * 4)), rules)
    assert lines[0][:4] == ("b", 2, 0.5, 0.0)
    assert lines[0][4] == "a 1, nothing 1"
    assert lines[1][3] == pytest.approx(2 * 2 / (3 + 2))


def test_a_rule_without_a_tag_of_its_own_is_shown_with_its_most_frequent_tags(rule_set: Any) -> None:
    tags = [f"t{i}" for i in range(8)]
    rules = rule_set(
        {"name": "few", "python": "bank:few"}, {"name": "many", "python": "bank:many"},
        {"name": "none", "python": "bank:none"}, tags=tags,
    )  # fmt: skip
    few = [3, 1, 3, -1, -1, -1, -1, -1]
    votes = from_matrix(np.array([few, list(range(8)), [-1] * 8]).T, rules).lazy()
    report, table, _ = rule_report(votes, rules)
    shown = dict(table.select("rule", "vote").rows())
    assert shown == {"few": "t3, t1", "many": "t0, t1, t2, t3, t4 and 3 more", "none": "by name"}
    assert "t3, t1" in report.html

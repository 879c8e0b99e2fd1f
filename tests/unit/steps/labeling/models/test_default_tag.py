"""The default tag: the predictions of rows without a vote, and its effect on figures and reports."""

from typing import Any

import numpy as np
import polars as pl
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from kommuna.steps.labeling.apply import apply_rules
from kommuna.steps.labeling.label import label_messages
from kommuna.steps.labeling.models.default_tag import undecided_shares
from kommuna.steps.labeling.rule_report import rule_report
from kommuna.steps.labeling.votes.label_matrix import from_matrix

TAGS = ["bad", "good", "plain"]


@pytest.fixture
def rules(rule_set: Any) -> Any:
    return rule_set(
        {"name": "bad", "tag": "bad", "any": ["awful"]},
        {"name": "good", "tag": "good", "any": ["great"]},
        tags=TAGS,
        otherwise="plain",
    )


def without(rules: Any) -> Any:
    return rules.model_copy(update={"otherwise": None})


@pytest.fixture
def rows() -> pl.DataFrame:
    """400 rows; a rule speaks on 100 of them, and is right; of the 300 left over 240 are plain, 60 bad."""
    texts = ["awful"] * 60 + ["great"] * 40 + ["a word"] * 300
    tags = ["bad"] * 60 + ["good"] * 40 + ["plain"] * 240 + ["bad"] * 60
    order = np.random.default_rng(0).permutation(400)
    return pl.DataFrame({"id": range(400), "text": np.array(texts)[order], "tag": np.array(tags)[order]})


def test_without_dev_rows_a_row_without_a_vote_has_the_default_tag_at_seven_tenths(rules: Any) -> None:
    messages = pl.LazyFrame({"id": [1, 2, 3], "text": ["awful", "hello", None]})
    applied = apply_rules(messages, rules)
    assert applied.votes.collect().equals(apply_rules(messages, without(rules)).votes.collect())
    assert applied.metrics["left_to_default"] == pytest.approx(2 / 3)
    for model in ("kommuna", "majority"):
        labels, *_, metrics = label_messages(applied.votes, rules, model=model)
        table = labels.collect()
        assert table["tag"].to_list() == ["bad", "plain", "plain"]
        assert table["probabilities"].to_list()[1] == pytest.approx([0.15, 0.15, 0.7])
        assert table["confidence"].to_list()[1:] == pytest.approx([0.7, 0.7])
        assert (metrics["labeled"], metrics["left_to_default"]) == (1.0, pytest.approx(2 / 3))
        assert metrics["tags_without_votes"] == 1  # `good`; nobody need vote for `plain`


def test_with_dev_rows_the_probability_of_the_default_tag_is_its_share(rules: Any, rows: pl.DataFrame) -> None:
    votes = apply_rules(rows.lazy(), rules).votes
    done = label_messages(votes, rules, votes, rows.lazy(), votes)
    table = done.labels.collect().join(rows, on="id")
    left = table.filter(text="a word")
    share = (240 + 4 * 0.7) / 304
    assert left["tag"].unique().to_list() == ["plain"]
    assert left["confidence"].to_numpy() == pytest.approx(share)
    assert left["probabilities"].to_numpy()[:, 0] == pytest.approx((60 + 4 * 0.15) / 304)
    assert done.metrics["dev_left_right"] == pytest.approx(0.8)
    assert done.metrics["dev_accuracy"] == done.metrics["dev_accuracy_labeled"] == pytest.approx(0.85)
    assert done.metrics["dev_calibration_error"] < 0.05
    bare = label_messages(apply_rules(rows.lazy(), without(rules)).votes, without(rules), votes, rows.lazy(), votes)
    assert bare.metrics["dev_accuracy"] == pytest.approx(0.25)
    covered = table["text"] != "a word"
    assert done.labels.collect().filter(covered).equals(bare.labels.collect().filter(covered))
    assert done.gold_labels is not None
    assert done.gold_labels.collect().equals(done.labels.collect())


def test_cross_fitted_rows_have_the_shares_of_other_folds(rules: Any, rows: pl.DataFrame) -> None:
    votes = apply_rules(rows.lazy(), rules).votes
    table = label_messages(votes, rules, votes, rows.lazy()).cross_fitted
    assert table is not None
    predicted = table.collect().join(rows, on="id")
    assert predicted["probabilities"].null_count() == 0
    dev = predicted.filter("dev")
    for fold in range(5):
        others = dev.filter((pl.col("fold") != fold) & (pl.col("text") == "a word"))
        share = ((others["tag"] == "plain").sum() + 4 * 0.7) / (others.height + 4)
        own = predicted.filter((pl.col("fold") == fold) & (pl.col("text") == "a word"))
        assert own["probabilities"].to_numpy()[:, 2] == pytest.approx(share, abs=1e-6)


def test_a_more_frequent_tag_than_the_default_is_warned_of_and_lowers_the_confidence(
    rules: Any, rows: pl.DataFrame
) -> None:
    turned = rows.with_columns(tag=pl.col("tag").replace({"plain": "bad", "bad": "plain"}))
    votes = apply_rules(rows.lazy(), rules).votes
    with structlog.testing.capture_logs() as logs:
        labels, *_ = label_messages(votes, rules, votes, turned.lazy(), model="majority")
    warned = [line for line in logs if line["event"] == "label.default_tag_not_likeliest"]
    assert [(line["default"], line["likeliest"], line["dev_rows"], line["its_dev_rows"]) for line in warned] == [
        ("plain", "bad", 60, 240)
    ]
    left = labels.collect().join(rows, on="id").filter(text="a word")
    assert left["tag"].unique().to_list() == ["plain"]
    assert left["confidence"].to_numpy() == pytest.approx((60 + 4 * 0.7) / 304)


def test_a_row_without_votes_has_the_default_tag_where_rows_may_have_multi_label(rule_set: Any) -> None:
    rules = rule_set(
        {"name": "card", "tag": "card", "any": ["card"]},
        {"name": "loan", "tag": "loan", "any": ["loan"]},
        tags=["card", "loan", "other"],
        multi_label=True,
        otherwise="other",
    )
    messages = pl.LazyFrame({"id": [1, 2, 3], "text": ["a card and a loan", "hello", "bye"]})
    votes = apply_rules(messages, rules).votes
    table = label_messages(votes, rules).labels.collect()
    assert table["tags"].to_list() == [["card", "loan"], ["other"], ["other"]]
    assert table["probabilities"].to_list()[1] == pytest.approx([0, 0, 0.7])
    dev = pl.LazyFrame({"id": [1, 2, 3], "tag": ["card|loan", "other", "loan|other"]})
    learned = label_messages(votes, rules, votes, dev, model="majority")
    predicted = learned.labels.collect()
    assert predicted["tags"].to_list() == [["card", "loan"], ["other"], ["other"]]
    assert predicted["probabilities"].to_list()[1] == pytest.approx([0, 1 / 6, (2 + 2.8) / 6])
    assert learned.metrics["dev_f1_micro"] == pytest.approx(2 * 4 / (4 + 5))


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), max_size=30), st.integers(0, 3))
def test_shares_are_probabilities_and_rise_with_the_dev_rows_of_a_tag(seen: list[int], default: int) -> None:
    truth = np.eye(4, dtype=bool)[np.array(seen, dtype=np.int64)]
    shares = undecided_shares(truth, default, multi_label=False)
    assert shares.sum() == pytest.approx(1)
    assert shares.min() > 0
    more = undecided_shares(np.concatenate([truth, np.eye(4, dtype=bool)[[default]]]), default, multi_label=False)
    assert more[default] > shares[default]
    assert undecided_shares(np.zeros((0, 1), dtype=bool), 0, multi_label=False).tolist() == [1.0]


def test_the_rule_report_takes_the_default_tag_into_account(rule_set: Any) -> None:
    """`says_plain` votes for what is left anyway: with the default tag it is worth nothing."""
    truth = np.array([0] * 40 + [2] * 160)
    matrix = np.full((200, 2), -1)
    matrix[:40, 0] = 0
    matrix[40:120, 1] = 2
    plain = [{"name": "says_bad", "tag": "bad", "any": ["x"]}, {"name": "says_plain", "tag": "plain", "any": ["y"]}]
    gain = {}
    for otherwise in (None, "plain"):
        rules = rule_set(*plain, tags=TAGS, otherwise=otherwise)
        votes = from_matrix(matrix, rules).lazy()
        dev = pl.LazyFrame({"id": range(200), "tag": [TAGS[t] for t in truth]})
        report, table, metrics = rule_report(votes, rules, None, votes, dev)
        gain[otherwise] = dict(table.select("rule", "gain").iter_rows())
    assert gain[None] == pytest.approx({"says_bad": 0.2, "says_plain": 0.4})
    assert gain["plain"] == pytest.approx({"says_bad": 0.2, "says_plain": 0.0})
    assert metrics["left_to_default"] == pytest.approx(0.4)
    assert "No rule votes on 80 of 200 rows: they have the default tag plain." in report.html
    assert "left to plain" in report.html


@pytest.mark.parametrize("model", ["kommuna", "majority", "weighted", "dawid_skene"])
def test_a_row_with_votes_against_tags_only_has_the_default_tag(model: Any) -> None:
    rules = {
        "tags": ["card", "fee", "app"], "otherwise": "app",
        "rules": [
            {"name": "c", "tag": "card", "any": ["card"]}, {"name": "f", "tag": "fee", "any": ["fee"]},
            {"name": "not_c", "tag": "card", "any": ["hello"], "against": True},
            {"name": "not_a", "tag": "app", "any": ["bye"], "against": True},
        ],
    }  # fmt: skip
    texts = ["hello", "nothing", "hello fee", "card", "bye"]
    rows = pl.DataFrame({"id": range(len(texts)), "text": texts})
    labels = label_messages(apply_rules(rows, rules).votes, rules, model=model).labels.collect()  # type: ignore[arg-type]
    assert labels["tag"].to_list()[:4] == ["app", "app", "fee", "card"]
    assert labels["tag"][4] != "app"

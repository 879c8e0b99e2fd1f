"""`apply_rules`: all kinds of rules in one plan with the key, its metrics and its errors."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import structlog

from kommuna.errors import DataError, DuplicateKeys, MissingColumn, RulesError, SchemaDrift
from kommuna.spec.rules import RuleSet
from kommuna.steps.labeling.apply import apply_rules, votes_plan
from kommuna.steps.labeling.votes.patterns import vote_patterns

MIXED = (
    {"name": "word", "tag": "card", "any": ["card"]},
    {"name": "pattern", "tag": "loan", "regex": r"loans?\b"},
    {"name": "ahead", "tag": "card", "regex": r"my(?= card)"},
    {"name": "big", "tag": "loan", "sql": "amount > 1000"},
    {"name": "no_loan", "tag": "loan", "any": ["hello"], "against": True},
)


def test_votes_of_every_kind_of_rule_have_the_documented_type(messages: pl.LazyFrame, rule_set: Any) -> None:
    votes, _, metrics = apply_rules(messages, rule_set(*MIXED))
    table = votes.collect()
    assert table.schema == {"id": pl.String} | {rule["name"]: pl.Enum(["card", "loan", "!loan"]) for rule in MIXED}
    assert table.rows() == [
        ("a", "card", None, "card", None, None),
        ("b", None, "loan", None, "loan", None),
        ("c", "card", "loan", "card", None, None),
        ("d", None, None, None, "loan", None),
        ("e", None, None, None, None, "!loan"),
    ]
    assert metrics == {
        "rows": 5, "rules": 5, "coverage": 1.0, "overlap": 0.6, "conflict": 0.2,
        "rules_never": 0, "rules_always": 0, "values_outside_tags": 0,
    }  # fmt: skip


def test_votes_are_1_and_0_where_rows_may_have_multi_label(messages: pl.LazyFrame, rule_set: Any) -> None:
    votes, _, metrics = apply_rules(messages, rule_set(*MIXED, multi_label=True))
    table = votes.collect()
    assert table["word"].to_list() == [1, None, 1, None, None]
    assert table["no_loan"].to_list() == [None, None, None, None, 0]
    assert table.dtypes[1:] == [pl.Int8] * 5
    assert metrics["conflict"] == 0.0  # one message may be about a card and a loan


def test_rules_that_never_or_always_vote_are_named_and_counted(messages: pl.LazyFrame, rule_set: Any) -> None:
    rules = rule_set(
        {"name": "dead", "tag": "card", "any": ["mortgage"]},
        {"name": "every", "tag": "loan", "sql": "id IS NOT NULL"},
        {"name": "fine", "tag": "card", "any": ["card"]},
    )
    with structlog.testing.capture_logs() as logs:
        *_, metrics = apply_rules(messages, rules)
    assert (metrics["rules_never"], metrics["rules_always"]) == (1, 1)
    warned = {log["event"]: log["rules"] for log in logs if "rules" in log and log["log_level"] == "warning"}
    assert warned == {"rules.never_vote": ["dead"], "rules.always_vote": ["every"]}


def test_a_regex_with_look_around_is_warned_of_by_name(messages: pl.LazyFrame, rule_set: Any) -> None:
    with structlog.testing.capture_logs() as logs:
        apply_rules(messages, rule_set(*MIXED))
    slow = [(log["rule"], log["reason"]) for log in logs if log["event"] == "rules.slow_regex"]
    assert slow == [("ahead", "look-around")]


def test_an_empty_table_has_no_votes_and_no_warnings(messages: pl.LazyFrame, rule_set: Any) -> None:
    with structlog.testing.capture_logs() as logs:
        votes, _, metrics = apply_rules(messages.head(0), rule_set(*MIXED))
    assert votes.collect().height == 0
    assert metrics["coverage"] == 0.0
    assert not [log for log in logs if log["event"] in ("rules.never_vote", "rules.always_vote")]


@pytest.mark.parametrize(
    ("change", "arguments", "error", "message"),
    [
        (lambda m: m, {"key": "ids"}, MissingColumn, "messages has no column 'ids' (did you mean 'id'?)"),
        (lambda m: m, {"text": "txt"}, MissingColumn, "messages has no column 'txt' (did you mean 'text'?)"),
        (lambda m: m, {"text": "amount"}, SchemaDrift, "column 'amount': expected String, found Float64"),
        (lambda m: pl.concat([m, m.head(1)]), {}, DuplicateKeys, "column 'id': 'a' names 2 rows (2 rows share a key)"),
        (lambda m: m.with_columns(id=None), {}, DataError, "column 'id': 5 of 5 keys are null"),
        (lambda m: m.rename({"id": "word"}), {"key": "word"}, RulesError, "rule 'word' has the name of the key"),
    ],
)
def test_invalid_messages_are_refused(
    messages: pl.LazyFrame, rule_set: Any, change: Any, arguments: dict[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        apply_rules(change(messages), rule_set(*MIXED), **arguments)
    assert message in str(caught.value)


def test_the_plan_is_lazy_and_includes_the_key(messages: pl.LazyFrame, rule_set: Any) -> None:
    plan = votes_plan(messages, rule_set(*MIXED))
    assert isinstance(plan, pl.LazyFrame)
    assert plan.collect_schema().names()[0] == "id"


def test_the_plan_does_not_read_fields_of_a_struct_one_by_one(messages: pl.LazyFrame, rule_set: Any) -> None:
    rules = rule_set(*({"name": f"r{j}", "tag": "a", "any": ["card"]} for j in range(50)))
    plan = votes_plan(messages, rules)
    assert "struct.field" not in plan.explain()  # for each field Polars searches all fields
    assert plan.collect()["r49"].to_list() == ["a", None, "a", None, None]


def test_a_rule_may_have_the_name_of_a_column_that_another_reads(messages: pl.LazyFrame, rule_set: Any) -> None:
    rules = rule_set(
        {"name": "amount", "tag": "card", "any": ["card"]}, {"name": "sum", "tag": "loan", "sql": "amount > 1000"}
    )
    votes = apply_rules(messages, rules).votes.collect()
    assert votes["amount"].to_list() == ["card", None, "card", None, None]
    assert votes["sum"].to_list() == [None, "loan", None, "loan", None]


def test_wrench_rules_reproduce_the_stored_weak_labels(shared_data: Path, rule_set: Any) -> None:
    import json

    for name in ("wrench_sms", "wrench_trec"):
        folder = shared_data / name
        rows = list(json.loads((folder / "train.json").read_text()).values())
        plain = json.loads((folder / "rules.json").read_text())
        rules = rule_set(
            *({"name": f"r{j}", "tag": str(rule["label"]), "regex": rule["regex"]} for j, rule in enumerate(plain))
        )
        table = pl.LazyFrame({"id": range(len(rows)), "text": [row["data"]["text"] for row in rows]})
        votes = apply_rules(table, rules).votes.collect()
        got = [[-1 if vote is None else int(vote) for vote in row[1:]] for row in votes.rows()]
        assert got == [row["weak_labels"] for row in rows]


def test_values_shared_by_all_rules_are_computed_once(monkeypatch: pytest.MonkeyPatch, rule_set: Any) -> None:
    """With a thousand rules, computing them per rule would dominate the time, as would reading struct fields singly."""
    calls = []
    known = RuleSet.categories.fget
    monkeypatch.setattr(RuleSet, "categories", property(lambda self: calls.append(1) or known(self)))
    counts = []
    for m in (3, 60):
        rules = rule_set(*({"name": f"r{j}", "tag": "ab"[j % 2], "any": [f"w{j}"]} for j in range(m)), tags=["a", "b"])
        calls.clear()
        messages = pl.LazyFrame({"id": [1, 2], "text": ["w1 w2", "w0"]})
        assert "struct.field" not in votes_plan(messages, rules).explain()
        vote_patterns(apply_rules(messages, rules).votes.collect(), rules)
        counts.append(len(calls))
    assert counts[0] == counts[1]

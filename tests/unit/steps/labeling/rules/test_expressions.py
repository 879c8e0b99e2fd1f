"""SQL and Python rules: their votes, and the errors of invalid ones."""

import re
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import polars as pl
import pytest
import structlog

from kommuna.errors import LlmSettings, MissingColumn, RulesError
from kommuna.spec.rules import KINDS, Rule
from kommuna.steps.labeling.apply import apply_rules
from kommuna.steps.labeling.rules.expressions import condition_of


@pytest.fixture
def bank_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of rule functions on sys.path, as a team's bundle has them; its name."""
    (tmp_path / "bank_rule_functions.py").write_text(
        dedent("""
        import polars as pl
        from kommuna.errors import RulesError

        def rich():
            return pl.col("amount") > 1000

        def by_channel():
            return pl.when(pl.col("channel") == "chat").then(pl.lit("card")).otherwise(pl.col("channel"))

        def refuses():
            def rate(values):
                if len(values):
                    raise RulesError("no rate", where="rates.csv", fix="add one of:\\n  USD: 1\\n  EUR: 2")

                return values > 0

            return pl.col("amount").map_batches(rate, return_dtype=pl.Boolean, is_elementwise=True)

        def number():
            return pl.col("amount") + 1

        def broken():
            raise KeyError("limits")

        def no_expression():
            return 42

        def other_rows():
            return pl.col("amount") > pl.col("amount").mean()

        def no_column():
            return pl.col("amounts") > 1

        def slowly():
            return pl.col("text").map_elements(lambda t: "card" in t.lower(), return_dtype=pl.Boolean)
        """)
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("bank_rule_functions", None)
    return "bank_rule_functions"


def test_every_kind_of_rule_that_reads_columns_has_a_condition_of_its_own() -> None:
    kinds = [kind for kind in KINDS.values() if kind.reads == "columns"]
    assert len(kinds) == len({condition_of.dispatch(kind) for kind in (*kinds, Rule)}) - 1


def test_sql_conditions_read_the_columns_of_a_row(messages: pl.LazyFrame, rule_set: Any) -> None:
    rules = rule_set({"name": "big", "tag": "loan", "sql": "amount >= 2000 AND channel = 'mail'"})
    assert apply_rules(messages, rules).votes.collect()["big"].to_list() == [None, "loan", None, "loan", None]


def test_python_rules_vote_by_their_expressions(messages: pl.LazyFrame, rule_set: Any, bank_rules: str) -> None:
    rules = rule_set(
        {"name": "rich", "tag": "loan", "python": f"{bank_rules}:rich"},
        {"name": "slowly", "tag": "card", "python": f"{bank_rules}:slowly"},
    )
    votes = apply_rules(messages, rules).votes.collect()
    assert votes["rich"].to_list() == [None, "loan", None, "loan", None]
    assert votes["slowly"].to_list() == ["card", None, "card", None, None]


def test_a_python_rule_may_name_tags_and_unknown_names_are_counted_as_abstentions(
    messages: pl.LazyFrame, rule_set: Any, bank_rules: str
) -> None:
    rules = rule_set({"name": "channel", "python": f"{bank_rules}:by_channel"}, tags=["card", "loan"])
    with structlog.testing.capture_logs() as logs:
        votes, _, metrics = apply_rules(messages, rules)
    assert votes.collect()["channel"].to_list() == ["card", None, "card", None, None]
    assert votes.collect().columns == ["id", "channel"]
    assert metrics["values_outside_tags"] == 2
    assert [(log["rule"], log["rows"]) for log in logs if log["event"] == "rules.outside_tags"] == [("channel", 2)]


@pytest.mark.parametrize(
    ("rule", "error", "message"),
    [
        ({"sql": "amuont > 1"}, MissingColumn, "rule 'r': no column 'amuont' (did you mean 'amount'?)"),
        ({"sql": "amount >"}, RulesError, "rule 'r': unable to parse 'amount >'"),
        ({"sql": "nosuch(amount)"}, RulesError, "rule 'r': unsupported function 'nosuch'"),
        ({"sql": "amount > 1e999"}, RulesError, "rule 'r': 1e999 is out of range"),
        ({"sql": "amount + 1"}, RulesError, "rule 'r': the SQL gives Float64, not true or false"),
        ({"sql": "text > 3"}, RulesError, "rule 'r': cannot compare string with numeric type"),
        ({"sql": "amount > AVG(amount)"}, RulesError, "rule 'r' depends on other rows"),
        ({"sql": "ROW_NUMBER() OVER (ORDER BY amount) > 1"}, RulesError, "rule 'r' depends on other rows"),
        ({"python": "no_such_module_here:f"}, RulesError, "rule 'r': no module 'no_such_module_here'"),
        ({"python": "MODULE:rihc"}, RulesError, "has no function 'rihc' (did you mean 'rich'?)"),
        ({"python": "MODULE:broken"}, RulesError, "rule 'r': MODULE:broken failed: KeyError: 'limits'"),
        ({"python": "MODULE:no_expression"}, RulesError, "returned int, not a Polars expression"),
        ({"python": "MODULE:other_rows"}, RulesError, "rule 'r' depends on other rows"),
        ({"python": "MODULE:no_column"}, MissingColumn, "no column 'amounts' (did you mean 'amount'?)"),
        ({"python": "MODULE:number"}, RulesError, "rule 'r' has the tag 'card', but MODULE:number gives Float64"),
        (
            {"python": "MODULE:by_channel"},
            RulesError,
            "rule 'r' has the tag 'card', but MODULE:by_channel gives String",
        ),
        ({"python": "MODULE:rich", "tag": None}, RulesError, "rule 'r' has no tag, but MODULE:rich gives Boolean"),
        ({"ask": "Is it about a card?"}, LlmSettings, "no light LLM is configured"),
    ],
)
def test_a_rule_that_cannot_be_applied_is_named(
    messages: pl.LazyFrame, rule_set: Any, bank_rules: str, rule: dict[str, str], error: type[Exception], message: str
) -> None:
    filled = {k: v.replace("MODULE", bank_rules) if v else v for k, v in rule.items()}
    with pytest.raises(error) as caught:
        apply_rules(messages, rule_set({"name": "r", "tag": "card"} | filled, tags=["card"]))
    assert message.replace("MODULE", bank_rules) in str(caught.value)


def test_a_kommuna_error_that_a_function_raises_keeps_its_fields(
    messages: pl.LazyFrame, rule_set: Any, bank_rules: str
) -> None:
    with pytest.raises(RulesError) as caught:
        apply_rules(messages, rule_set({"name": "r", "tag": "card", "python": f"{bank_rules}:refuses"}, tags=["card"]))
    assert (caught.value.what, caught.value.where) == ("no rate", "rates.csv")
    assert caught.value.fix == "add one of:\n  USD: 1\n  EUR: 2"


FUNCTIONS = """
import polars as pl


def _per_row(function):
    return pl.col("text").map_batches(function, return_dtype=pl.Boolean, is_elementwise=True)


def one(): return _per_row(lambda s: pl.Series([True]))
def in_a_condition(): return _per_row(lambda s: pl.Series([True])) & (pl.col("id") > 0)
def short(): return _per_row(lambda s: pl.Series([True] * (len(s) - 1), dtype=pl.Boolean))
def bare(): return _per_row(lambda s: True)
def wrong_type(): return _per_row(lambda s: s)
def raises(): return pl.col("text").map_elements(lambda s: bool(int(s[9:])), return_dtype=pl.Boolean)
def opens(): return pl.col("text").map_elements(lambda s: bool(open("/nowhere/words.txt")), return_dtype=pl.Boolean)
def leaves(): raise SystemExit(3)
def fine(): return _per_row(lambda s: s.str.contains("card"))
"""


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("one", "rule 'r': its function returned 1 values for a batch of "),
        ("in_a_condition", "rule 'r'"),
        ("short", "rule 'r': its function returned "),
        ("bare", "rule 'r'"),
        ("wrong_type", "rule 'r'"),
        ("raises", "rule 'r' fails on a row: ValueError: invalid literal for int()"),
        ("opens", "rule 'r' fails on a row: FileNotFoundError: "),
        ("leaves", "rule 'r': kommuna_failing_rules:leaves failed: SystemExit: 3"),
    ],
)
def test_a_python_rule_that_fails_is_named_and_a_single_value_is_not_repeated(
    messages: pl.LazyFrame, rule_set: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, message: str
) -> None:
    (tmp_path / "kommuna_failing_rules.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    other = {"name": "other", "tag": "card", "sql": "amount > 1"}
    rules = rule_set(other, {"name": "r", "tag": "card", "python": f"kommuna_failing_rules:{function}"}, tags=["card"])
    with pytest.raises(RulesError) as caught:
        apply_rules(messages, rules)
    assert message in str(caught.value)
    assert caught.value.where == f"python: kommuna_failing_rules:{function}"
    assert "This error occurred" not in str(caught.value)
    fine = rule_set({"name": "r", "tag": "card", "python": "kommuna_failing_rules:fine"}, tags=["card"])
    assert apply_rules(messages, fine).votes.collect()["r"].null_count() < 5


@pytest.mark.parametrize(
    ("sql", "votes"),
    [
        ("usual > 4", [False, False, True, False]),  # NaN is not a vote
        ("amount / usual > 1", [True, False, False, False]),
        ("small * 1000 > 0", [True, True, True, False]),
        ("small * small = 10000", [True, False, False, False]),
        ("ok IS NOT TRUE", [False, True, True, True]),
        ("SQRT(amount - 3) > 0", [True, False, True, False]),
        ("STRPOS(name, 'ов') = 5", [True, False, False, False]),
        ("LENGTH(name) - 10 > 0", [False, False, False, False]),
        ("amount % 0 = 0", [False, False, False, False]),
        ("NOT usual > 4", [True, True, False, False]),
    ],
)
def test_sql_rules_follow_standard_sql(rule_set: Any, sql: str, votes: list[bool]) -> None:
    rows = pl.LazyFrame(
        {
            "id": [1, 2, 3, 4],
            "amount": [5.0, 0.0, 5.0, float("nan")],
            "usual": [2.0, 0.0, 8.0, float("nan")],
            "small": pl.Series([100, 200, 50, None], dtype=pl.Int16),
            "ok": [True, False, None, None],
            "name": ["Иванов", "b", None, "c"],
        }
    )
    got = apply_rules(rows, rule_set({"name": "r", "tag": "loan", "sql": sql})).votes.collect()["r"]
    assert got.is_not_null().to_list() == votes


@pytest.mark.parametrize(
    ("sql", "votes"),
    [
        ("huge * 10 - huge * 10 > -1", [True, False, False]),  # inf - inf
        ("NOT huge * 10 - huge * 10 > 1", [True, False, False]),
        ("huge * 10 - huge * 10 <> 5", [True, False, False]),
        ("huge * 10 - huge * 10 IS NOT DISTINCT FROM NULL", [False, True, True]),
        ("(huge * 10 - huge * 10) NOT IN (7.5, 8.5)", [True, False, False]),
        ("CASE WHEN huge > 1e300 THEN huge * 10 - huge * 10 ELSE 100.0 END > 50", [True, False, True]),
        ("inf - inf > 0", [False, False, False]),
        ("inf > 1 AND inf - amount > 0", [True, True, True]),
        ("big + 1 > 0", [True, False, False]),
        ("big + 1 < 0", [False, False, False]),
        ("big * big > 0", [True, False, False]),
        ("(big + 1) - 1 > 0", [True, False, False]),
        ("-(-big) > 0", [True, True, False]),
        ("small * 1000 * 1000 > 0", [True, True, False]),
        ("9223372036854775807 + CAST(amount AS BIGINT) < 0", [False, False, False]),
        ("unsigned - 5 > 0", [False, True, False]),
        ("unsigned - 5 < 0", [True, False, False]),
    ],
)
def test_values_that_are_not_numbers_give_no_vote(rule_set: Any, sql: str, votes: list[bool]) -> None:
    inf = float("inf")
    rows = pl.LazyFrame(
        {
            "id": [1, 2, 3],
            "amount": [1.0, 2.0, 3.0],
            "huge": [10.0, 1e308, None],
            "inf": [inf, inf, inf],
            "big": [5, 2**63 - 1, None],
            "small": pl.Series([100, 32000, None], dtype=pl.Int16),
            "unsigned": pl.Series([2, 200, None], dtype=pl.UInt8),
        }
    )
    got = apply_rules(rows, rule_set({"name": "r", "tag": "loan", "sql": sql})).votes.collect()["r"]
    assert got.is_not_null().to_list() == votes


def test_a_rule_that_fails_on_a_row_is_named(messages: pl.LazyFrame, rule_set: Any) -> None:
    rules = rule_set(
        {"name": "fine", "tag": "loan", "sql": "amount > 1"},
        {"name": "cast", "tag": "loan", "sql": "CAST(channel AS INT) > 1"},
    )
    with pytest.raises(RulesError, match="rule 'cast' fails on a row: conversion from `str`") as caught:
        apply_rules(messages, rules)
    assert "TRY_CAST" in caught.value.fix


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("INTERVAL 'x'", "expected leading integer in the interval string, found 'x'"),
        ("GREATEST() > 1", "cannot return empty fold"),  # Polars panics
        ("COLUMNS('(') > 1", "invalid regex"),
        ("CAST(amount AS DECIMAL(99)) > 1", r"DECIMAL\(99\) is not a valid type"),
    ],
)
def test_sql_that_polars_cannot_run_is_refused(messages: pl.LazyFrame, rule_set: Any, sql: str, message: str) -> None:
    with pytest.raises(RulesError, match=f"rule 'r': .*{message}"):
        apply_rules(messages, rule_set({"name": "r", "tag": "loan", "sql": sql}))


def test_the_precedence_of_a_predicate_is_that_of_the_standard(messages: pl.LazyFrame, rule_set: Any) -> None:
    rules = rule_set({"name": "r", "tag": "loan", "sql": "amount IS NOT DISTINCT FROM amount AND amount < 0"})
    assert apply_rules(messages, rules).votes.collect()["r"].null_count() == 5


def test_a_select_in_a_rule_is_refused(messages: pl.LazyFrame, rule_set: Any) -> None:
    rules = rule_set({"name": "sub", "tag": "loan", "sql": "amount IN (SELECT 1)"})
    with pytest.raises(RulesError, match="rule 'sub': its SQL is a SELECT, not a condition"):
        apply_rules(messages, rules)


def test_the_documented_python_condition_is_false_where_the_divisor_is_0() -> None:
    page = Path(__file__).parents[5] / "docs" / "rules.md"
    written = re.search(r"`(\(pl\.col\(\"usual\"\).*)`\.$", page.read_text(), re.MULTILINE)
    assert written is not None
    rows = pl.DataFrame({"amount": [5.0, 0.0, 9.0, 1.0], "usual": [0.0, 0.0, 2.0, 2.0]})
    assert rows.select(vote=eval(written[1], {"pl": pl}))["vote"].to_list() == [False, False, True, False]

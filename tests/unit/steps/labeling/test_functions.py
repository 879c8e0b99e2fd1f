"""Python functions that vote, by row and by expression, and the errors if they fail."""

from typing import Any

import polars as pl
import pytest

from kommuna.errors import DuplicateKeys, KommunaError, MissingColumn, RulesError
from kommuna.spec.rules import RuleSet
from kommuna.steps.labeling.apply import apply_rules
from kommuna.steps.labeling.functions import votes_of

TAGS = ["card", "loan"]
MESSAGES = pl.DataFrame({"id": ["a", "b", "c"], "text": ["my card", "a loan", None], "amount": [1, 2000, 3]})


def about_card(row: Any) -> str | None:
    return "card" if "card" in (row.text or "") else None


def by_index(row: Any) -> int:
    return 1 if row["amount"] > 1000 else -1


def in_columns() -> pl.Expr:
    return pl.when(pl.col("text").str.contains("loan")).then(pl.lit("loan"))


def test_functions_by_row_and_by_expression_give_one_table_of_votes() -> None:
    for messages in (MESSAGES, MESSAGES.lazy(), MESSAGES.to_pandas()):
        votes = votes_of([about_card, by_index, in_columns], messages, tags=TAGS)
        assert votes.schema == {"id": pl.String} | dict.fromkeys(
            ["about_card", "by_index", "in_columns"], pl.Enum(TAGS)
        )
        assert votes.rows() == [("a", "card", None, None), ("b", None, "loan", "loan"), ("c", None, None, None)]


def test_functions_vote_as_equivalent_rules_do() -> None:
    rules = RuleSet.read(
        {
            "tags": TAGS,
            "rules": [
                {"name": "one", "tag": "card", "any": ["card"]},
                {"name": "two", "tag": "loan", "sql": "amount > 1000"},
            ],
        }
    )
    votes = votes_of({"one": about_card, "two": by_index}, MESSAGES, tags=rules)
    assert votes.equals(apply_rules(MESSAGES.lazy(), rules).votes.collect())


def fails(row: Any) -> str:
    return "card" if row.text.startswith("my") else "loan"


def misspelt(row: Any) -> str:
    return str(row.txet)


REFUSED: dict[str, tuple[Any, str]] = {
    r"rule 'fails' failed: AttributeError: 'NoneType' object has no attribute 'startswith'": (fails, "row id = 'c'"),
    r"rule 'misspelt' failed: AttributeError: no column 'txet' .did you mean 'text'": (misspelt, "row id = 'a'"),
    r"rule 'r': 'lone' is not a tag .did you mean 'loan'": (lambda row: "lone" if row.id == "b" else None, "row id = 'b'"),
    r"rule 'r': True is not a tag": (lambda row: True, "row id = 'a'"),
    r"rule 'r': 2 is not a tag": (lambda row: 2, "row id = 'a'"),
    r"rule 'r': 0\.5 is not a tag": (lambda row: 0.5, "row id = 'a'"),
    r"rule 'r': 'a loan' is not a tag": (lambda: pl.col("text").str.replace("my ", ""), "row id = 'b'"),
    r"rule 'r' has no tag, but r gives Boolean": (lambda: pl.col("amount") > 1, "function: r"),
    r"rule 'r': no column 'amuont' .did you mean 'amount'": (lambda: pl.col("amuont").cast(str), "function: r"),
    r"rule 'r' depends on other rows": (lambda: pl.col("text").shift(), "function: r"),
    r"rule 'r': r returned NoneType, not a Polars expression": (lambda: None, "function: r"),
    r"rule 'r': r failed: ZeroDivisionError": (lambda: 1 / 0, "function: r"),
}  # fmt: skip


@pytest.mark.parametrize("words", REFUSED)
def test_an_error_names_the_rule_and_the_row(words: str) -> None:
    function, where = REFUSED[words]
    functions = [function] if function in (fails, misspelt) else {"r": function}
    with pytest.raises(KommunaError, match=words) as refused:
        votes_of(functions, MESSAGES, tags=TAGS)
    assert refused.value.where == where


def test_names_and_keys_are_checked_before_any_function_is_called() -> None:
    with pytest.raises(RulesError, match="duplicate rule name 'about_card'"):
        votes_of([about_card, about_card], MESSAGES, tags=TAGS)
    with pytest.raises(RulesError, match="a rule must not be named '<lambda>'"):
        votes_of([lambda row: None], MESSAGES, tags=TAGS)
    with pytest.raises(RulesError, match="the list of functions is empty"):
        votes_of([], MESSAGES, tags=TAGS)
    with pytest.raises(RulesError, match="rule 'r' is not a function but int"):
        votes_of({"r": 1}, MESSAGES, tags=TAGS)  # type: ignore[dict-item]
    with pytest.raises(MissingColumn, match="no column 'key'") as refused:
        votes_of([about_card], MESSAGES, tags=TAGS, key="key")
    assert "with_row_index('key')" in refused.value.fix
    with pytest.raises(DuplicateKeys):
        votes_of([about_card], MESSAGES.with_columns(id=pl.lit("a")), tags=TAGS)

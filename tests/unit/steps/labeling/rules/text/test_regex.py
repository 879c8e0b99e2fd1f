"""Regex rules: the same as Python's `re` where that is promised, and the slow path where it must be."""

import re

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kommuna.errors import RulesError
from kommuna.spec.rules import Rule, RuleSet
from kommuna.steps.labeling.apply import apply_rules
from kommuna.steps.labeling.rules.text import regex as regexes
from kommuna.steps.labeling.rules.text.regex import python_only, regex_search
from kommuna.steps.labeling.rules.text.search import text_hits

PATTERNS = [
    r"card|loan", r"^где", r"\bкарт\w*", r"(?:top|up)[- ]?up", r"\d{2,}", r"[а-яё]+\s+card", r"[^a-z]card", r"a.c",
    r"(?P<x>a)b?", r"ё", r"\.", r"card(?! reader)", r"(?<=my )card", r"(a)\1", r"(?>a+)b", r"a++b", r"\<b",
    r"[a&&b]", r"a{,2}b",
]  # fmt: skip
WORDS = "card КАРТА карт где Top up - 12 7 a b B c & < _ ё Ё . , reader loan my\u00a0"
PIECES = st.sampled_from([*WORDS.split(" "), "my ", " ", "\n"])
CATASTROPHE = r"^(a|b|ab)*(a|aa)+(?=c)$"
TEXTS = st.lists(st.lists(PIECES, max_size=8).map("".join), max_size=6)


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(deadline=None)
@given(texts=TEXTS)
def test_a_regex_fires_where_pythons_search_does(pattern: str, texts: list[str]) -> None:
    rule = Rule(name="r", tag="t", regex=pattern)
    table = pl.DataFrame({"text": texts}, schema={"text": pl.String})
    hits = table.select(text_hits([rule], pl.col("text")).struct.field("r"))["r"]
    assert hits.to_list() == [re.search(pattern, text, re.IGNORECASE) is not None for text in texts]


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("card|loan", None),
        (r"\bкарт\w+\b", None),
        (r"a\\<b", None),
        (r"card(?! reader)", "look-around"),
        (r"x(y(?<=z)w)", "look-around"),
        (r"(a|(b)\2)", "a back-reference"),
        (r"(?P<q>a)(?P=q)", "a back-reference"),
        (r"(a)?(?(1)b|c)", "a conditional group"),
        (r"(?>a)", "an atomic group"),
        (r"[^x](?:a*+)", "a possessive repeat"),
        (r"[a--b]", "a set within a set, which the engines read differently"),
        (r"\<b", "an escape that the engines read differently"),
        (r"a{,2}", "a form that Polars' engine refuses"),
    ],
)
def test_what_needs_python_is_found(pattern: str, reason: str | None) -> None:
    assert python_only(pattern) == reason


def fires(pattern: str, text: str) -> bool:
    rule = Rule(name="r", tag="t", regex=pattern)
    hits = pl.DataFrame({"text": [text]}).select(text_hits([rule], pl.col("text")).struct.field("r"))
    return bool(hits.item())


def test_where_the_engines_differ_from_pythons_is_as_the_docs_say() -> None:
    assert not fires("card$", "card\n")  # the end is the end
    for ahead in ("", "(?=)"):  # in both engines
        assert fires(rf"\bе\w\b{ahead}", "е\u0301")  # a combining mark belongs to its word
        assert not fires(f"i{ahead}", "ı")  # Turkish dotless i is another letter
        assert not fires(f"счет{ahead}", "счёт")  # a regex sees the text as it is


def test_the_number_of_groups_does_not_make_a_regex_slow() -> None:
    assert python_only("(a)(b)(c)(d)(e)|(f){2}|(?:g){4,5}") is None


def test_a_null_text_has_no_answer_in_either_engine() -> None:
    texts = pl.Series([None, "ab"], dtype=pl.String)
    for pattern in ("a", "a(?=b)"):
        assert regex_search(Rule(name="r", tag="t", regex=pattern))(texts).to_list() == [None, True]


def test_a_regex_that_would_take_years_ends_with_the_rules_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regexes, "SECONDS_A_TEXT", 0.05)
    rules = RuleSet.read(
        {"tags": ["t"], "rules": [{"name": "endless", "tag": "t", "regex": CATASTROPHE}]}, where="test"
    )
    table = pl.LazyFrame({"id": [1, 2], "text": ["fine", "a" * 60 + "!"]})
    with pytest.raises(RulesError) as caught:
        apply_rules(table, rules)
    assert str(caught.value).startswith("rule 'endless': its regex takes too long: 0 of ")
    assert "expression" not in str(caught.value)  # Polars' plan is not ours


def test_many_slow_texts_together_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regexes, "SECONDS_A_TEXT", 0.05)
    monkeypatch.setattr(regexes, "SECONDS_A_THOUSAND", 0.0)
    search = regex_search(Rule(name="slow", tag="t", regex="(?=x)[a-z]+"))
    with pytest.raises(RulesError, match="rule 'slow': its regex takes too long"):
        search(pl.Series(["ab" * 500] * 200_000))


def test_without_look_around_the_same_pattern_takes_no_time() -> None:
    assert not fires("(a|aa)+$", "a" * 5000 + "!")


@pytest.mark.parametrize("pattern", ["(?=a)[[:alpha:]]", "(?:foo){e<=1}(?=x)", "(?:foo){i}"])
def test_what_the_slower_engine_reads_otherwise_is_refused_by_name(pattern: str) -> None:
    with pytest.raises(RulesError, match=r"rule 'r': .* is not read as in Python"):
        regex_search(Rule(name="r", tag="t", regex=pattern))


@pytest.mark.parametrize("pattern", [r"a{2}(?=b)", r"a{2,}(?=b)", r"a{,2}(?=b)", r"a{2,3}(?=b)", r"a\{e(?=b)"])
def test_repeats_and_escaped_braces_are_not_refused(pattern: str) -> None:
    regex_search(Rule(name="r", tag="t", regex=pattern))

"""Regex rules: equal to Python's `re` as documented, with the slower engine only where it is needed."""

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
def test_a_regex_fires_where_search_of_python_matches(pattern: str, texts: list[str]) -> None:
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
def test_patterns_that_need_the_slower_engine_are_recognized(pattern: str, reason: str | None) -> None:
    assert python_only(pattern) == reason


def fires(pattern: str, text: str) -> bool:
    rule = Rule(name="r", tag="t", regex=pattern)
    hits = pl.DataFrame({"text": [text]}).select(text_hits([rule], pl.col("text")).struct.field("r"))
    return bool(hits.item())


def test_the_documented_differences_from_python_hold() -> None:
    assert not fires("card$", "card\n")  # $ is the end of the text only
    for ahead in ("", "(?=)"):  # in both engines
        assert fires(rf"\bе\w\b{ahead}", "е\u0301")  # a combining mark is part of its word
        assert not fires(f"i{ahead}", "ı")  # the Turkish dotless i is another letter
        assert not fires(f"счет{ahead}", "счёт")  # a regex is searched in the original text


def test_many_groups_do_not_need_the_slower_engine() -> None:
    assert python_only("(a)(b)(c)(d)(e)|(f){2}|(?:g){4,5}") is None


def test_a_null_text_is_null_in_both_engines() -> None:
    texts = pl.Series([None, "ab"], dtype=pl.String)
    for pattern in ("a", "a(?=b)"):
        assert regex_search(Rule(name="r", tag="t", regex=pattern))(texts).to_list() == [None, True]


def test_a_regex_that_takes_too_long_ends_with_an_error_that_names_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regexes, "SECONDS_PER_TEXT", 0.05)
    rules = RuleSet.read(
        {"tags": ["t"], "rules": [{"name": "endless", "tag": "t", "regex": CATASTROPHE}]}, where="test"
    )
    table = pl.LazyFrame({"id": [1, 2], "text": ["fine", "a" * 60 + "!"]})
    with pytest.raises(RulesError) as caught:
        apply_rules(table, rules)
    assert str(caught.value).startswith("rule 'endless': its regex takes too long: 0 of ")
    assert "expression" not in str(caught.value)  # the query plan of Polars is left out


def test_the_time_for_a_batch_of_texts_is_limited_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regexes, "SECONDS_PER_TEXT", 0.05)
    monkeypatch.setattr(regexes, "SECONDS_PER_THOUSAND", 0.0)
    search = regex_search(Rule(name="slow", tag="t", regex="(?=x)[a-z]+"))
    with pytest.raises(RulesError, match="rule 'slow': its regex takes too long"):
        search(pl.Series(["ab" * 500] * 200_000))


def test_a_pattern_without_look_around_takes_linear_time() -> None:
    assert not fires("(a|aa)+$", "a" * 5000 + "!")


@pytest.mark.parametrize("pattern", ["(?=a)[[:alpha:]]", "(?:foo){e<=1}(?=x)", "(?:foo){i}"])
def test_patterns_that_the_slower_engine_reads_differently_are_refused(pattern: str) -> None:
    with pytest.raises(RulesError, match=r"rule 'r': .* is not read as in Python"):
        regex_search(Rule(name="r", tag="t", regex=pattern))


@pytest.mark.parametrize("pattern", [r"a{2}(?=b)", r"a{2,}(?=b)", r"a{,2}(?=b)", r"a{2,3}(?=b)", r"a\{e(?=b)"])
def test_repeats_and_escaped_braces_are_not_refused(pattern: str) -> None:
    regex_search(Rule(name="r", tag="t", regex=pattern))

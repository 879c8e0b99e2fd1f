"""Regex rules: the same as Python's `re` where that is promised, and the slow path where it must be."""

import re

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kommuna.spec.rules import Rule
from kommuna.steps.labeling.regexes import python_only, regex_hits

PATTERNS = [
    r"card|loan", r"^где", r"\bкарт\w*", r"(?:top|up)[- ]?up", r"\d{2,}", r"[а-яё]+\s+card", r"[^a-z]card", r"a.c",
    r"(?P<x>a)b?", r"ё", r"\.", r"card(?! reader)", r"(?<=my )card", r"(a)\1", r"(?>a+)b", r"a++b", r"\<b",
    r"[a&&b]", r"a{,2}b",
]  # fmt: skip
WORDS = "card КАРТА карт где Top up - 12 7 a b B c & < _ ё Ё . , reader loan my\u00a0"
PIECES = st.sampled_from([*WORDS.split(" "), "my ", " ", "\n"])
TEXTS = st.lists(st.lists(PIECES, max_size=8).map("".join), max_size=6)


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(deadline=None)
@given(texts=TEXTS)
def test_a_regex_fires_where_pythons_search_does(pattern: str, texts: list[str]) -> None:
    rule = Rule(name="r", tag="t", regex=pattern)
    hits = pl.DataFrame({"text": texts}, schema={"text": pl.String}).select(h=regex_hits(rule, pl.col("text")))
    assert hits["h"].to_list() == [re.search(pattern, text, re.IGNORECASE) is not None for text in texts]


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


def test_where_the_engines_differ_is_as_the_docs_say() -> None:
    def fires(pattern: str, text: str) -> bool:
        rule = Rule(name="r", tag="t", regex=pattern)
        return bool(pl.DataFrame({"text": [text]}).select(regex_hits(rule, pl.col("text"))).item())

    assert not fires("card$", "card\n")  # the end is the end
    assert fires(r"\bе\w\b", "е\u0301")  # a combining mark belongs to its word
    assert not fires("i", "ı")  # Turkish dotless i is another letter
    assert not fires("счет", "счёт")  # a regex sees the text as it is


def test_a_null_text_has_no_answer_in_either_engine() -> None:
    table = pl.DataFrame({"text": pl.Series([None, "ab"], dtype=pl.String)})
    for pattern in ("a", "a(?=b)"):
        rule = Rule(name="r", tag="t", regex=pattern)
        assert table.select(h=regex_hits(rule, pl.col("text")))["h"].to_list() == [None, True]

"""Keyword rules with stems: the same votes as a reference in pure Python, for any text."""

import polars as pl
import pytest
import snowballstemmer
from hypothesis import given, settings
from hypothesis import strategies as st

from kommuna.spec.rules import Rule
from kommuna.steps.labeling.rules.text.search import text_hits
from kommuna.steps.labeling.rules.text.tokens import tokens


def reference(language: str, keyword: str, text: str | None) -> bool:
    """The stems of the keyword's tokens are a contiguous part of the stems of the text's tokens."""
    stemmer = snowballstemmer.stemmer(language)
    wanted, found = ([stemmer.stemWord(token) for token in tokens(string or "")] for string in (keyword, text))
    return any(found[i : i + len(wanted)] == wanted for i in range(len(found) - len(wanted) + 1))


WORDS = (
    "карта карты КАРТОЙ карт картами потерял потеряла потерянный ещё еще happy happily happi cards card lost losing "
    "über uber straße strasse die dying ski skis - , . c++ 12 № \u0301 🙂"
)
PIECES = st.sampled_from(WORDS.split(" "))
TEXTS = st.lists(
    st.one_of(st.none(), st.lists(PIECES, max_size=10).map(" ".join), st.lists(PIECES, max_size=6).map("".join)),
    max_size=6,
)
KEYWORDS = st.lists(
    st.lists(PIECES, min_size=1, max_size=3).map(" ".join).filter(lambda k: bool(tokens(k))), min_size=1, max_size=3
)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["russian", "english", "german"]), KEYWORDS), min_size=1, max_size=3), TEXTS)
def test_votes_equal_the_reference(rows: list[tuple[str, list[str]]], texts: list[str | None]) -> None:
    rules = [Rule(name=f"r{j}", tag="t", any=tuple(words), stem=language) for j, (language, words) in enumerate(rows)]
    table = pl.DataFrame({"text": texts}, schema={"text": pl.String})
    hits = table.select(text_hits(rules, pl.col("text")).alias("hits")).unnest("hits")
    for j, (language, words) in enumerate(rows):
        assert hits[f"r{j}"].to_list() == [any(reference(language, w, text) for w in words) for text in texts]


@pytest.mark.parametrize(
    ("language", "keyword", "text", "fires"),
    [
        ("russian", "потерял карту", "Я потеряла КАРТЫ!", True),
        ("russian", "карта", "картами", True),
        ("russian", "карта", "картон", False),
        ("english", "lost card", "lost cards", True),
        ("english", "lost card", "cards lost", False),
        ("english", "happy", "happily happier", False),
        ("english", "happy", "happy", True),
    ],
)
def test_word_forms_are_found_in_order(language: str, keyword: str, text: str, fires: bool) -> None:
    rule = Rule(name="r", tag="t", any=(keyword,), stem=language)
    assert pl.DataFrame({"text": [text]}).select(text_hits([rule], pl.col("text")).struct.field("r")).item() is fires


def test_rules_with_and_without_stems_can_be_mixed() -> None:
    rules = [
        Rule(name="form", tag="t", any=("карта",)),
        Rule(name="stem", tag="t", any=("карта",), stem="russian"),
        Rule(name="pattern", tag="t", regex="карт"),
    ]
    hits = pl.DataFrame({"text": ["карта", "карты", "карт", "картон"]}).select(
        text_hits(rules, pl.col("text")).alias("h")
    )
    assert hits.unnest("h").rows() == [
        (True, True, True), (False, True, True), (False, True, True), (False, False, True),
    ]  # fmt: skip

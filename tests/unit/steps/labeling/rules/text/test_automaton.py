"""Keyword rules: the same votes as a reference in pure Python, for any text."""

import re
import unicodedata

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kommuna.errors import RulesError
from kommuna.spec.rules import Rule
from kommuna.steps.labeling.rules.text.automaton import keyword_patterns
from kommuna.steps.labeling.rules.text.search import text_hits
from kommuna.steps.labeling.rules.text.tokens import keyword_line
from kommuna.steps.text import normalize


def reference(keyword: str, text: str | None) -> bool:
    """The definition in docs/rules.md: the keyword's tokens are a contiguous part of the text's tokens."""

    def split(string: str) -> list[str]:
        kinds = "".join(
            "w" if unicodedata.category(c)[0] in "LMN" or c == "_" else " " if c == " " else "."
            for c in normalize(string)
        )
        return [normalize(string)[m.start() : m.end()] for m in re.finditer(r"w+|\.", kinds)]

    if text is None:
        return False
    wanted, found = split(keyword), split(text)
    return any(found[i : i + len(wanted)] == wanted for i in range(len(found) - len(wanted) + 1))


WORDS = (
    "card CARD cards карта Карту ещё еще е\u0308 ß SS ſ İ ı ς Σ _ 1 24/7 c++ top-up - — . , ' ’ \u0301 \u0306 и № 🙂"
)
PIECES = st.sampled_from([*WORDS.split(" "), "top up", "\n", "\t", "\u00a0", "\u200b", " ", "  "])
PLAIN_WORDS = "card CARD карта Карту ещё Ещё еще _ 1 24/7 c++ - -- , . ' ! # $ % & @ A — … « № no € 🙂 ²"
PLAIN = st.sampled_from(PLAIN_WORDS.split(" "))
TEXTS = st.one_of(
    st.none(),
    st.lists(st.one_of(PLAIN, st.sampled_from([" ", " ", "\n"])), max_size=12).map("".join),
    st.lists(PIECES, max_size=12).map("".join),
    st.text(st.characters(exclude_categories=["Cs", "Cn"])),
)
KEYWORDS = st.lists(PIECES, min_size=1, max_size=3).map("".join).filter(lambda k: k.strip() and keyword_line(k))


@settings(deadline=None)
@given(st.lists(TEXTS, max_size=8), st.lists(st.lists(KEYWORDS, min_size=1, max_size=4), min_size=1, max_size=5))
def test_votes_equal_the_reference_for_any_text(texts: list[str | None], keywords: list[list[str]]) -> None:
    rules = [Rule(name=f"r{j}", tag="t", any=tuple(row)) for j, row in enumerate(keywords)]
    table = pl.DataFrame({"text": texts}, schema={"text": pl.String})
    hits = table.select(text_hits(rules, pl.col("text")).alias("hits")).unnest("hits")
    for j, row in enumerate(keywords):
        assert hits[f"r{j}"].to_list() == [any(reference(k, text) for k in row) for text in texts]


@pytest.mark.parametrize(
    ("keyword", "text", "fires"),
    [
        ("card", "Card.", True),
        ("card", "cards", False),
        ("card", "my_card", False),
        ("card", "card1", False),
        ("card", "card's limit", True),
        ("карта", "Кредитка-карта!", True),
        ("карта", "картами", False),
        ("все", "Всё плохо", True),
        ("top up", "a top\n  up", True),
        ("top up", "top-up", True),
        ("top up", "top, up", False),
        ("c++", "I like c++!", True),
        ("c", "c++", True),
        ("?", "really?", True),
        ("замок", "за\u0301мок", True),
    ],
)
def test_a_keyword_is_found_as_whole_words_only(keyword: str, text: str, fires: bool) -> None:
    rule = Rule(name="r", tag="t", any=(keyword,))
    hits = pl.DataFrame({"text": [text]}).select(text_hits([rule], pl.col("text")).struct.field("r"))
    assert hits.item() is fires
    assert reference(keyword, text) is fires


def test_keywords_that_overlap_in_the_text_are_all_found() -> None:
    rules = [
        Rule(name=f"r{j}", tag="t", any=(k,))
        for j, k in enumerate(["my card", "card is", "card", "is lost", "my card is lost"])
    ]
    hits = pl.DataFrame({"text": ["my card is lost"]}).select(text_hits(rules, pl.col("text")).alias("h")).unnest("h")
    assert hits.row(0) == (True,) * 5


def test_a_keyword_that_consists_of_hyphens_is_refused() -> None:
    with pytest.raises(RulesError, match="rule 'dash': the keyword '--' has no letter, digit or sign"):
        keyword_patterns(Rule(name="dash", tag="t", any=("--",)))

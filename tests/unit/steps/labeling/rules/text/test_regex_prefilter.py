"""The words that a regex needs: for any pattern and text, a text that the regex matches contains them."""

import re
import sys
import unicodedata

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kommuna.spec.rules import Rule
from kommuna.steps.labeling.rules.text.byte_codes import NEUTRAL
from kommuna.steps.labeling.rules.text.regex import regex_search
from kommuna.steps.labeling.rules.text.regex_prefilter import needed_words
from kommuna.steps.labeling.rules.text.search import text_hits
from kommuna.steps.labeling.rules.text.tokens import rare_rows, token_lines


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("card", [["card"]]),
        ("card|loan", [["card", "loan"]]),
        ("cards?", [["card"]]),
        ("КАРТ[аыу]", [["карта", "карту", "карты"]]),
        ("плат[её]ж", [["платеж"]]),
        ("(lost|stolen).{0,20}(my )?cards?", [["card"], ["lost", "stolen"]]),
        (r"(не могу|не выходит)\s+войти", [["не выходит", "не могу"], ["войти"]]),
        (
            "(lost|stolen).{0,9}card|(взят|дать).{0,9}кредит",
            [["card", "кредит"], ["lost", "stolen", "взят", "дать"]],
        ),
        ("(lost|stolen).{0,9}card|кредит", [["card", "кредит"], ["lost", "stolen", "кредит"]]),
        ("(?:card)+", [["card"]]),
        ("(?:card)*", []),
        ("card|.", []),
        ("a.b", []),
        ("[^a]card", [["card"]]),
        (r"\bcard\b", [["card"]]),
        ("top-up", [["top up"]]),
        ("don't", [["don"]]),
        ("naïve card", [["ve card"]]),
        (r"(\w)\1 card(?! reader)", [["card"]]),
    ],
)
def test_the_needed_words_of_a_pattern_are_known(pattern: str, words: list[list[str]]) -> None:
    assert [sorted(found) for found in needed_words(pattern)] == words


ATOMS = st.sampled_from(
    ["card", "Карта", "ё", "й", "и", "к", "s", "ß", "fi", "c++", "top-up", " ", "'", "№", "é", "К", "_", "12"]
).map(re.escape)
PATTERNS = st.recursive(
    st.one_of(ATOMS, st.sampled_from([".", r"\w", r"\b", r"\s", "[её]", "[а-г]", "[^a]"])),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
        st.tuples(inner, st.sampled_from(["?", "*", "+", "{2}", "{0,2}"])).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
        inner.map(lambda part: f"(?={part})"),
    ),
    max_leaves=8,
)
PIECES = st.sampled_from(
    ["card", "CARD", "Карта", "ё", "Ё", "ё\u0301", "\u0439", "\u0419", "и", "и\u0306", "к", "К", "\u212a", "s", "ſ", "ß",
     "ﬁ", "fi", "c++", "top-up", "top", "—", "«", "»", "'", "’", "№", "é", "É", "\u0301", "_", "12", "🙂", "\u00ad"]
)  # fmt: skip
PLAIN = st.sampled_from(
    ["card", "CARD", "Карта", "ё", "Ё", "\u0439", "\u0419", "и", "к", "К", "s", "fi", "c++", "top-up", "'", "_", "12", "—",
     "«", "№", "no", "€", "²", "…", "🙂", "\u00ad"]
)  # fmt: skip
TEXTS = st.lists(
    st.one_of(st.none(), *(st.lists(st.one_of(p, st.just(" ")), max_size=10).map("".join) for p in (PIECES, PLAIN))),
    max_size=6,
)


@settings(deadline=None, max_examples=300)
@given(PATTERNS, TEXTS)
def test_the_prefilter_changes_no_vote(pattern: str, texts: list[str | None]) -> None:
    rule = Rule(name="r", tag="t", regex=pattern)
    plenty = [*texts, *["nothing here"] * (2 * len(texts) + 1)]  # without them the regex would run on all texts
    table = pl.DataFrame({"text": plenty}, schema={"text": pl.String})
    found = table.select(text_hits([rule], pl.col("text")).struct.field("r"))["r"]
    assert found.to_list() == regex_search(rule)(table["text"]).fill_null(False).to_list()


def test_letters_next_to_a_neutral_character_are_folded_as_if_alone() -> None:
    every = pl.Series([c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) not in ("Cs", "Cn")])
    neutral = every.filter(~every.str.contains(rf"[^{NEUTRAL}]"))
    assert len(neutral) > 1000
    for before, after in (("и", "е"), ("e", "i"), ("К", "S")):
        texts = before + neutral + after
        lines = token_lines(texts, rare_rows(texts)).str.strip_chars(" ")
        assert lines.str.starts_with(before.lower()).all()
        assert lines.str.ends_with(after.lower()).all()


def test_no_neutral_character_is_another_case_of_a_latin_or_cyrillic_letter() -> None:
    letters = "".join(c for c in map(chr, (*range(128), *range(0x400, 0x482))) if c.isalpha())
    every = pl.Series([c for c in map(chr, range(128, sys.maxunicode + 1)) if unicodedata.category(c) != "Cs"])
    twins = every.filter(every.str.contains(f"(?i)^[{letters}]$") & ~every.is_in(list(letters)))
    assert twins.to_list()  # such as the Kelvin sign
    assert twins.str.contains(rf"[^{NEUTRAL}]").all()

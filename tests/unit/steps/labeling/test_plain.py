"""Plain texts as one line: the same tokens as by folding, each text in its row, all others marked as odd."""

import re
import sys
import unicodedata

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kommuna.spec.rules import Rule
from kommuna.steps.labeling import text_rules
from kommuna.steps.labeling.fold import tokens
from kommuna.steps.labeling.plain import ODD, ROW, plain_code, plain_line
from kommuna.steps.labeling.text_rules import text_hits

RUSSIAN = "абвгдеёжзийклмнопрстуфхцчшщъыьэюя"
SPACES = "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f "
PLAIN = {*RUSSIAN, *RUSSIAN.upper(), *SPACES, *map(chr, range(0x20, 0x7F))}
TEXTS = st.lists(
    st.one_of(
        st.none(),
        st.text(st.sampled_from(sorted(PLAIN)), max_size=20),
        st.text(st.sampled_from("аЁё карта-top, \n.!\x00\x01№é\u0301ІѢ\u200b🙂"), max_size=20),
        st.text(st.characters(exclude_categories=["Cs"])),
    ),
    min_size=1,
    max_size=8,
)


def rows(texts: list[str | None]) -> list[str]:
    return plain_line(pl.Series(texts, dtype=pl.String))[0].split(ROW)


def signs_apart(line: str) -> str:
    return " ".join(line.replace(".", " . ").split())


def test_exactly_the_texts_of_other_characters_are_odd() -> None:
    every = [char for char in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(char) != "Cs"]
    found = rows(every)
    assert len(found) == len(every)
    assert {char for char, line in zip(every, found, strict=True) if ODD not in line} == PLAIN


@settings(deadline=None, max_examples=300)
@given(TEXTS)
def test_each_text_has_a_row_with_its_tokens_or_is_odd(texts: list[str | None]) -> None:
    found = rows(texts)
    assert len(found) == len(texts)
    for text, line in zip(texts, found, strict=True):
        assert (ODD in line) == (not PLAIN.issuperset(text or ""))
        if ODD not in line:
            assert "  " not in line
            assert signs_apart(line) == plain_code(" ".join(tokens(text or "")))


def test_every_letter_and_digit_has_a_code_of_its_own() -> None:
    words = [char for char in sorted(PLAIN) if re.fullmatch(r"\w", char) and char == "".join(tokens(char))]
    assert len(words) == 32 + 26 + 10 + 1
    assert len({plain_code(char) for char in words}) == len(words)


def test_white_space_and_hyphens_are_one_space_however_many() -> None:
    assert rows(["a -\t b", "-a\n", "", " "]) == [" a b ", " a ", " ", " "]
    assert rows(["a, b ,c"]) == [" a. b .c "]


@pytest.mark.parametrize(("text", "code"), [("top up", "top up"), ("c + +", "c . ."), ("€ 5", None), ("\x02", None)])
def test_what_no_plain_text_holds_has_no_code(text: str, code: str | None) -> None:
    assert plain_code(text) == code


@settings(deadline=None, max_examples=50)
@given(TEXTS, st.integers(1, 40))
def test_votes_do_not_depend_on_how_many_texts_are_looked_through_at_once(texts: list[str | None], size: int) -> None:
    rules = [
        Rule(name="word", tag="t", any=("карта", "top", "а")),
        Rule(name="sign", tag="t", any=("top.", "!")),
        Rule(name="pattern", tag="t", regex="кар.а"),
    ]
    table = pl.DataFrame({"text": texts}, schema={"text": pl.String})
    plan = table.lazy().select(text_hits(rules, pl.col("text")).alias("hits"))
    at_once = plan.collect()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_rules, "_MOST_BYTES", size)
        assert plan.collect().equals(at_once)

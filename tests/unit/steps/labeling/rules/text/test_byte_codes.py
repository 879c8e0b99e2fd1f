"""Encoded lines: each text has a row with the tokens that folding gives, or is marked as not encodable."""

import re
import sys
import unicodedata

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kommuna.spec.rules import Rule
from kommuna.steps.labeling.rules.text import search as text_rules
from kommuna.steps.labeling.rules.text.byte_codes import NEUTRAL, NO_CODE, ROW, encoded, encoded_line
from kommuna.steps.labeling.rules.text.search import text_hits
from kommuna.steps.labeling.rules.text.tokens import tokens

RUSSIAN = "абвгдеёжзийклмнопрстуфхцчшщъыьэюя"
SPACES = "\t\n\x0b\x0c\r "
ASCII = {*SPACES, *map(chr, range(0x20, 0x7F))}
OTHERS = "\u00a0«»“”„’‘—–…№₽€²→🙂©\u00ad"
ENCODABLE = {*RUSSIAN, *RUSSIAN.upper(), *ASCII, *OTHERS}
TEXTS = st.lists(
    st.one_of(
        st.none(),
        st.text(st.sampled_from(sorted(ENCODABLE)), max_size=20),
        st.text(st.sampled_from("аЁё карта-top, \n.!\x00\x01№é\u0301ІѢ\u200b🙂«—…½\u00b4\ufe0f"), max_size=20),
        st.text(st.characters(exclude_categories=["Cs"])),
    ),
    min_size=1,
    max_size=8,
)


def rows(texts: list[str | None]) -> list[str]:
    line: bytes = encoded_line(pl.Series(texts, dtype=pl.String))[0]
    return line.decode("ascii").split(ROW)


def signs_apart(line: str) -> str:
    return " ".join(line.replace(".", " . ").split())


def test_russian_letters_ascii_and_common_signs_have_codes_and_characters_that_may_compose_do_not() -> None:
    every = [char for char in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(char) not in ("Cs", "Cn")]
    found = rows(every)
    assert len(found) == len(every)
    coded = {char for char, line in zip(every, found, strict=True) if NO_CODE not in line}
    assert coded >= ENCODABLE
    assert not [char for char in coded if unicodedata.combining(char) or char == "\x00"]
    letters = {char for char in coded if not char.isascii() and unicodedata.category(char)[0] == "L"}
    assert letters == {*RUSSIAN, *RUSSIAN.upper(), "ª", "º"}
    assert not pl.Series(sorted(coded)).str.contains(f"[^{NEUTRAL}]").any()


@settings(deadline=None, max_examples=300)
@given(TEXTS)
def test_each_text_has_a_row_with_its_tokens_or_is_marked(texts: list[str | None]) -> None:
    found = rows(texts)
    assert len(found) == len(texts)
    for text, line in zip(texts, found, strict=True):
        assert NO_CODE not in line or not ENCODABLE.issuperset(text or "")
        if NO_CODE not in line:
            assert "  " not in line
            assert signs_apart(line) == signs_apart(encoded(" ".join(tokens(text or ""))) or "")


@settings(deadline=None)
@given(st.lists(st.sampled_from(OTHERS), max_size=6), st.sampled_from(["е", "e", "card"]))
def test_signs_that_are_replaced_by_ascii_have_the_same_tokens_next_to_letters(others: list[str], letter: str) -> None:
    text = letter + letter.join(others) + letter
    assert signs_apart(rows([text])[0]) == encoded(" ".join(tokens(text)))


def test_every_letter_and_digit_has_a_code_of_its_own() -> None:
    words = [char for char in sorted({*RUSSIAN, *ASCII}) if re.fullmatch(r"\w", char) and char == "".join(tokens(char))]
    assert len(words) == 32 + 26 + 10 + 1
    assert len({encoded(char) for char in words}) == len(words)


def test_a_run_of_white_space_and_hyphens_is_one_space() -> None:
    assert rows(["a -\t b", "-a\n", "", " "]) == [" a b ", " a ", " ", " "]
    assert rows(["a, b ,c"]) == [" a. b .c "]


@pytest.mark.parametrize(
    ("text", "code"), [("top up", "top up"), ("c + +", "c . ."), ("€ 5", ". 5"), ("é", None), ("\x02", None)]
)
def test_a_text_with_a_character_without_a_code_is_none(text: str, code: str | None) -> None:
    assert encoded(text) == code


@settings(deadline=None, max_examples=50)
@given(TEXTS, st.integers(1, 40))
def test_votes_do_not_depend_on_how_many_texts_are_searched_at_once(texts: list[str | None], size: int) -> None:
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

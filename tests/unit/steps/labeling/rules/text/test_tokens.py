"""Token lines: the Polars expression and pure Python agree for every character and any text."""

import sys
import unicodedata

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kommuna.steps.labeling.rules.text.tokens import keyword_line, rare_rows, token_lines, tokens

ASSIGNED = st.characters(exclude_categories=["Cs", "Cn"])


def lines_of(texts: pl.Series) -> pl.Series:
    return token_lines(texts, rare_rows(texts))


def test_every_assigned_character_is_folded_equally_by_polars_and_python() -> None:
    codes = [code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) not in ("Cs", "Cn")]
    chars = pl.Series([chr(code) for code in codes])
    lines = lines_of(chars)
    wrong = [char for char, line in zip(chars, lines, strict=True) if line.strip(" ") != " ".join(tokens(char))]
    assert wrong == []


@settings(deadline=None)
@given(st.lists(st.text(ASSIGNED), max_size=20))
def test_any_text_is_folded_equally_by_polars_and_python(texts: list[str]) -> None:
    lines = lines_of(pl.Series(texts, dtype=pl.String))
    assert [line.strip(" ") for line in lines] == [" ".join(tokens(text)) for text in texts]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ещё", "еще"),
        ("СЧЁТ", "счет"),
        ("е\u0308", "ё"),
        ("и\u0306", "Й"),
        ("за\u0301мок", "замок"),
        ("STRASSE", "straße"),
        ("ΟΔΟΣ", "οδος"),
        ("don’t", "don't"),
        ("top–up", "top up"),
        ("top-up", "Top  up"),
        ("ﬁne", "fine"),
        ("１２３", "123"),
        ("soft\u00adhyphen", "softhyphen"),
        ("a\u00a0b", "a b"),
    ],
)
def test_equivalent_spellings_have_the_same_tokens(one: str, other: str) -> None:
    assert keyword_line(one) == keyword_line(other)


@pytest.mark.parametrize(("one", "other"), [("й", "и"), ("cafe", "café"), ("a_b", "a b"), ("ь", "ъ"), ("c", "c++")])
def test_different_spellings_have_different_tokens(one: str, other: str) -> None:
    assert keyword_line(one) != keyword_line(other)


def test_null_stays_null() -> None:
    assert lines_of(pl.Series([None, "A"], dtype=pl.String)).to_list() == [None, " a "]


def test_the_input_texts_are_not_changed() -> None:
    texts = pl.Series(["и\u0306", "№ 5", "a,  b"])
    lines_of(texts)
    assert texts.to_list() == ["и\u0306", "№ 5", "a,  b"]

"""Folding text: the Polars expression and plain Python give the same, for every character and any text."""

import sys
import unicodedata

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kommuna.steps.labeling.fold import fold, keyword_line, token_line, tokens

ASSIGNED = st.characters(exclude_categories=["Cs", "Cn"])


def test_every_assigned_character_folds_alike_in_polars_and_python() -> None:
    codes = [code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) not in ("Cs", "Cn")]
    table = pl.DataFrame({"char": [chr(code) for code in codes]}).select(
        "char", line=token_line(pl.col("char"))
    )
    wrong = [char for char, line in table.iter_rows() if line.strip(" ") != " ".join(tokens(char))]
    assert wrong == []


@settings(deadline=None)
@given(st.lists(st.text(ASSIGNED), max_size=20))
def test_any_text_folds_alike_in_polars_and_python(texts: list[str]) -> None:
    table = pl.DataFrame({"text": texts}, schema={"text": pl.String})
    table = table.select(line=token_line(pl.col("text")))
    assert [line.strip(" ") for line in table["line"]] == [" ".join(tokens(text)) for text in texts]


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
def test_spellings_that_people_take_for_the_same_are_the_same(one: str, other: str) -> None:
    assert keyword_line(one) == keyword_line(other)


@pytest.mark.parametrize(("one", "other"), [("й", "и"), ("cafe", "café"), ("a_b", "a b"), ("ь", "ъ"), ("c", "c++")])
def test_spellings_that_differ_stay_apart(one: str, other: str) -> None:
    assert keyword_line(one) != keyword_line(other)


def test_null_stays_null() -> None:
    assert pl.DataFrame({"t": pl.Series([None], dtype=pl.String)}).select(token_line(pl.col("t"))).item() is None

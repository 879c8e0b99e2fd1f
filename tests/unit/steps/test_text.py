"""The normal form: equivalent texts are equal, and each part maps back to its position in the text."""

import sys
import unicodedata

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kommuna.steps.etl.clean import clean
from kommuna.steps.text import INVISIBLE, MARKS, bare, normalize, normalized

CHARACTERS = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) != "Cs"]
TEXTS = st.text(
    st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("аеиё\u0301\u0308\u00ad\u200e -ﬁ№"))
)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("за\u0301мок", "замок"),
        ("ＣＡＲＤ", "card"),
        ("СЧЁТ", "счет"),
        ("сче\u0308т", "счет"),
        ("сче\u200b\u0308т", "счет"),
        ("STRASSE", "straße"),
        ("кар\u00adта", "карта"),
        ("кар\u200eта", "карта"),
        ("кар\x07та", "карта"),
        ("don’t", "don't"),
        ("top–up", "top up"),
        ("№", "no"),
    ],
)
def test_equivalent_spellings_have_the_same_normal_form(one: str, other: str) -> None:
    assert normalize(one) == normalize(other) == normalized(one).text


@pytest.mark.parametrize(("one", "other"), [("й", "и"), ("café", "cafe"), ("a_b", "a b"), ("ь", "ъ")])
def test_different_spellings_have_different_normal_forms(one: str, other: str) -> None:
    assert normalize(one) != normalize(other)


def test_the_character_classes_contain_all_characters_of_their_categories() -> None:
    characters = pl.Series(CHARACTERS)
    for listed, categories in ((MARKS, {"Mn", "Mc", "Me"}), (INVISIBLE, {"Cf", "Cc"})):
        found = set(characters.filter(characters.str.contains(f"[{listed}]")))
        wanted = {char for char in CHARACTERS if unicodedata.category(char) in categories}
        assert found <= wanted
        assert all(char.isspace() for char in wanted - found)


@pytest.mark.slow
def test_every_character_has_a_position_alone_and_after_others() -> None:
    wrong = [char for char in CHARACTERS for text in (char, f"а{char}б", f"ᄀ{char}\u0301") if not placed(text)]
    assert wrong == []


@settings(deadline=None)
@given(TEXTS)
def test_folding_with_and_without_positions_gives_the_same_text(text: str) -> None:
    assert placed(text)


def placed(text: str) -> bool:
    found = normalized(text)
    ends = zip(found.start, found.end, strict=True)
    return found.text == normalize(text) and len(found.text) == len(found.start) and all(0 <= a < b for a, b in ends)


def test_a_part_of_the_normal_form_maps_back_to_the_text() -> None:
    text = "Мой «за\u0301м\u00adок» ﬁне"
    found = normalized(text)
    first = found.text.index("замок")
    start, end = found.span(first, first + len("замок"))
    assert text[start:end] == "за\u0301м\u00adок"


@settings(deadline=None)
@given(TEXTS)
def test_cleaning_does_not_change_the_normal_form(text: str) -> None:
    if not clean_text(text):
        assert not normalize(text).strip()
    else:
        assert normalize(clean_text(text) or "").split() == normalize(text).split()


def clean_text(text: str) -> str | None:
    other = "another row, since a table without any text is refused"
    cleaned = clean(pl.LazyFrame({"id": [0, 1], "text": [text, other]})).table.collect()
    return dict(cleaned.iter_rows()).get(0)


def test_copies_of_a_text_have_the_same_words() -> None:
    assert bare("  «Где моя ка\u0301рта?!» — ЕЩЁ_раз ") == bare("где моя карта, еще раз") == "где моя карта еще раз"
    assert bare(None) == bare("?!") == ""

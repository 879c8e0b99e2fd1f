from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kommuna.errors import DataError, DuplicateKeys, MissingColumn, SchemaDrift, SpecError
from kommuna.steps.etl.clean import clean


def cleaned(texts: list[Any], **options: Any) -> list[str]:
    table = pl.LazyFrame({"id": [str(i) for i in range(len(texts))], "text": texts})
    return clean(table, **options).table.collect()["text"].to_list()


def test_white_space_is_collapsed_and_invisible_characters_are_removed() -> None:
    assert cleaned(["  a\u00a0b\t\n c ", "при\u200bвет\ufeff", "x\u0007y\u00ad"]) == ["a b c", "привет", "xy"]


def test_decomposed_letters_are_composed() -> None:
    assert cleaned(["и\u0306 е\u0308"]) == ["й ё"]


def test_empty_texts_and_identical_rows_are_dropped_and_counted_in_order() -> None:
    table = pl.LazyFrame({"id": [3, 1, 2, 3, 4, 1], "text": ["c", "a", " \u200b ", "c\u00a0", None, "a"]})
    got = clean(table)
    assert got.table.collect().rows() == [(3, "c"), (1, "a")]
    assert got.metrics == {
        "rows_in": 6.0, "rows": 2.0, "dropped_empty": 2.0, "dropped_duplicates": 2.0, "cut_texts": 0.0,
    }  # fmt: skip


def test_rows_with_the_same_key_and_different_content_are_refused() -> None:
    table = pl.LazyFrame({"id": ["a", "b", "b"], "text": ["x", "y", "y"], "tag": ["t", "t", "u"]})
    with pytest.raises(DuplicateKeys, match="column 'id': the key 'b' names 2 rows of different content"):
        clean(table)


def test_a_null_key_is_refused_with_its_row() -> None:
    with pytest.raises(DataError, match="column 'id': the key is null in row 2"):
        clean(pl.LazyFrame({"id": ["a", None], "text": ["x", "y"]}))


@pytest.mark.parametrize("texts", [[None, None], ["", " "], ["\u200b", None]])
def test_a_text_column_without_a_text_is_refused(texts: list[str | None]) -> None:
    with pytest.raises(DataError, match="column 'text': all 2 texts are null or empty"):
        clean(pl.LazyFrame({"id": [1, 2], "text": texts}))


def test_missing_and_wrong_columns_are_named() -> None:
    with pytest.raises(MissingColumn, match=r"table has no column 'text' \(did you mean 'texts'\?\)"):
        clean(pl.LazyFrame({"id": [1], "texts": ["a"]}))
    with pytest.raises(SchemaDrift, match="column 'text': expected String, found Int64"):
        clean(pl.LazyFrame({"id": [1], "text": [1]}))


def test_a_text_of_five_megabytes_is_cut_and_counted() -> None:
    got = clean(pl.LazyFrame({"id": [1, 2], "text": ["я" * 2_500_000, "b"]}))
    assert got.table.collect()["text"].str.len_chars().to_list() == [20_000, 1]
    assert got.metrics["cut_texts"] == 1.0


def test_the_cut_counts_characters_after_cleaning() -> None:
    got = clean(pl.LazyFrame({"id": [1, 2], "text": ["a" + " " * 50 + "b", "абвгд"]}), max_chars=4)
    assert got.table.collect()["text"].to_list() == ["a b", "абвг"]
    assert got.metrics["cut_texts"] == 1.0


def test_an_empty_table_stays_empty() -> None:
    got = clean(pl.LazyFrame(schema={"id": pl.String, "text": pl.String}))
    assert got.table.collect().is_empty()
    assert got.metrics["rows"] == 0.0


@given(st.lists(st.text(), min_size=1, max_size=8), st.integers(1, 30))
def test_cleaning_twice_changes_nothing(texts: list[str], max_chars: int) -> None:
    once = cleaned(["x", *texts], max_chars=max_chars)
    assert cleaned(once, max_chars=max_chars) == once


@pytest.mark.parametrize("name", ["text", "id"])
def test_one_column_cannot_be_both_key_and_text(name: str) -> None:
    table = pl.LazyFrame({"id": ["a"], "text": ["x"]})
    with pytest.raises(SpecError, match=f"column '{name}' is given as the key and as the text"):
        clean(table, key=name, text=name)


@pytest.mark.parametrize("key", ["n", "kinds", "#row", "#rows", "#content", "rows", "empty"])
def test_columns_may_have_any_name(key: str) -> None:
    table = pl.LazyFrame({key: ["a", "a", "b"], "text": ["x", "x", "y"], "count": [1, 1, 2]})
    assert clean(table, key=key).table.collect()[key].to_list() == ["a", "b"]

"""Lists of texts: a single text is never taken for the list of its letters, wherever one is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from kommuna.errors import SpecError
from kommuna.spec.texts import distinct_texts, text_list
from kommuna.steps.etl.asof import asof_join
from kommuna.steps.etl.mask import mask_pii
from kommuna.steps.labeling.functions import votes_of
from kommuna.steps.training.train import _feature_columns

TABLE = pl.DataFrame({"id": ["1"], "text": ["Иван писал"], "amount": [1]})


def test_lists_tuples_and_sets_are_taken_in_a_set_order() -> None:
    assert text_list("names", ("b", "a")) == ["b", "a"]
    assert text_list("names", {"b", "a", "c"}) == ["a", "b", "c"]
    assert text_list("names", []) == []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("Иван", "`names` is a list of texts; got the text 'Иван'\n  fix: write names=['Иван']"),
        (7, "`names` is a list of texts; got 7"),
        (["Иван", 7], "`names` is a list of texts; it holds 7, a int"),
        (b"abc", "`names` is a list of texts; it holds 97, a int"),
    ],
)
def test_what_is_not_a_list_of_texts_is_refused(value: Any, message: str) -> None:
    with pytest.raises(SpecError) as error:
        text_list("names", value)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("names", lambda: mask_pii(TABLE.lazy(), names="Иван")),
        ("by", lambda: asof_join(TABLE.lazy(), TABLE.lazy(), on="amount", by="id")),
        ("features", lambda: _feature_columns("boosted_trees", "amount", "text", roles={})),
        ("tags", lambda: votes_of({"never": lambda: None}, TABLE, tags="card")),
    ],
)
def test_every_step_that_takes_a_list_refuses_a_text(name: str, call: Callable[[], object]) -> None:
    with pytest.raises(SpecError, match=f"`{name}` is a list of texts; got the text"):
        call()


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("by", lambda: asof_join(TABLE.lazy(), TABLE.lazy(), on="amount", by=["id", "id"])),
        ("features", lambda: _feature_columns("boosted_trees", ["id", "id"], "text", roles={})),
        ("tags", lambda: votes_of({"never": lambda: None}, TABLE, tags=["id", "id"])),
    ],
)
def test_every_step_whose_list_holds_each_text_once_says_which_is_there_twice(
    name: str, call: Callable[[], object]
) -> None:
    with pytest.raises(SpecError, match=f"`{name}` holds 'id' twice") as error:
        call()
    assert error.value.fix == f"name it once: {name}=['id']"


def test_a_list_of_different_texts_keeps_its_order() -> None:
    assert distinct_texts("by", ("b", "a")) == ["b", "a"]

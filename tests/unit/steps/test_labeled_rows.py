"""Labels as people write them. `test_same_in_every_step.py` checks that every step reads them alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from structlog.testing import capture_logs

from kommuna.errors import DataError, MissingColumn, SchemaDrift
from kommuna.steps.labeled_rows import read_labeled_rows, tags_of, truth_matrix

TAGS = ("card", "loan")
ODD = ["card | loan", "card ", None, "", " | ", "loan|", "|card", "card|card", "  loan"]
SEVERAL = ["card,loan", "card", "", "", "", "loan", "card", "card", "loan"]
ONE = ["card", None, "", " ", " loan "]


def read(labels: Any, *, multi_label: bool) -> pl.DataFrame:
    table = pl.LazyFrame({"id": range(len(labels)), "tag": labels})
    return read_labeled_rows(table, multi_label=multi_label, key="id", label="tag", what="dev")


def names(truth: Any) -> list[str]:
    return [",".join(TAGS[j] for j in np.flatnonzero(row)) for row in truth]


def test_multi_label_in_a_cell_are_stripped_and_blank_parts_dropped() -> None:
    rows = read(ODD, multi_label=True)
    assert names(truth_matrix(rows["tag"], rows["id"], TAGS, multi_label=True, what="dev")) == SEVERAL
    assert tags_of(rows["tag"]) == ("card", "loan")


def test_a_list_is_equivalent_to_tags_in_a_cell() -> None:
    lists = [["card", "loan"], ["card "], None, [], ["", None], ["loan", ""], ["card"], ["card", "card"], ["loan"]]
    rows = read(lists, multi_label=True)
    assert names(truth_matrix(rows["tag"], rows["id"], TAGS, multi_label=True, what="dev")) == SEVERAL


@pytest.mark.parametrize("multi_label", [False, True])
def test_reading_again_changes_nothing(multi_label: bool) -> None:
    once = read(ODD if multi_label else ONE, multi_label=multi_label)
    again = read_labeled_rows(once.lazy(), multi_label=multi_label, key="id", label="tag", what="dev")
    assert again.equals(once)


def test_with_one_tag_per_row_a_row_without_a_label_is_left_out_and_counted() -> None:
    with capture_logs() as logs:
        rows = read(ONE, multi_label=False)
    assert rows.rows() == [(0, "card"), (4, "loan")]
    assert [log["left_out"] for log in logs if log["event"] == "labeled_rows.without_label"] == [3]


@pytest.mark.parametrize(
    ("labels", "multi_label", "said"),
    [
        ([1, 2], False, "expected a tag, found Int64"),
        ([["card"]], False, r"expected a tag, found List\(String\)"),
        ([[1]], True, r"expected a tag, or tags separated by \|, found List\(Int64\)"),
    ],
)
def test_a_column_without_tags_is_refused(labels: Any, multi_label: bool, said: str) -> None:
    with pytest.raises(SchemaDrift, match=said):
        read(labels, multi_label=multi_label)


def test_an_unknown_tag_is_named_with_its_row() -> None:
    rows = read(["card", "card | laon"], multi_label=True)
    with pytest.raises(DataError, match=r"gold: row 1 has the label 'laon'.*did you mean 'loan'.*1 such in all"):
        truth_matrix(rows["tag"], rows["id"], TAGS, multi_label=True, what="gold")


def test_a_missing_column_is_named() -> None:
    with pytest.raises(MissingColumn, match=r"dev has no column 'tga' \(did you mean 'tag'\?\)"):
        read_labeled_rows(
            pl.LazyFrame({"id": [1], "tag": ["card"]}), multi_label=False, key="id", label="tga", what="dev"
        )

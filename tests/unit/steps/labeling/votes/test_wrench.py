"""WRENCH JSON: real splits are unchanged after reading and writing, and invalid files are refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from kommuna.errors import DataError, MissingColumn, RulesError
from kommuna.steps.labeling.label import label_messages
from kommuna.steps.labeling.votes.label_matrix import to_matrix
from kommuna.steps.labeling.votes.wrench import read_wrench, write_wrench


@pytest.mark.parametrize("name", ["wrench_youtube", "wrench_sms", "wrench_trec"])
@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_split_is_unchanged_after_reading_and_writing(
    shared_data: Path, tmp_path: Path, name: str, split: str
) -> None:
    source = shared_data / name / f"{split}.json"
    read = read_wrench(source)
    write_wrench(tmp_path / f"{split}.json", read.votes, read.rules, read.messages)
    assert json.loads((tmp_path / f"{split}.json").read_text()) == json.loads(source.read_text())
    assert json.loads((tmp_path / "label.json").read_text()) == json.loads((source.parent / "label.json").read_text())


def test_a_split_is_read_as_its_matrix_and_can_be_labeled(shared_data: Path) -> None:
    source = shared_data / "wrench_youtube" / "train.json"
    read = read_wrench(source)
    stored = [row["weak_labels"] for row in json.loads(source.read_text()).values()]
    assert to_matrix(read.votes, read.rules).tolist() == stored
    labels, *_, metrics = label_messages(
        read.votes.lazy(), read.rules, read.votes.head(200).lazy(), read.messages.lazy()
    )
    joined = labels.collect().join(read.messages, on="id").drop_nulls("tag")
    assert (joined["tag"].cast(pl.String) == joined["tag_right"].cast(pl.String)).mean() > 0.85
    assert metrics["labeled"] == pytest.approx(np.mean([max(line) >= 0 for line in stored]))


def test_true_classes_may_be_unknown(tmp_path: Path, rule_set: Any) -> None:
    rules = rule_set({"name": "r", "tag": "a", "any": ["x"]}, tags=["a", "b"])
    votes = pl.DataFrame({"id": ["u", "v"], "r": pl.Series(["a", None], dtype=pl.Enum(["a", "b"]))})
    write_wrench(tmp_path / "train.json", votes, rules, pl.DataFrame({"id": ["v", "u"], "text": ["é", "x"]}))
    assert json.loads((tmp_path / "train.json").read_text()) == {
        "u": {"label": None, "weak_labels": [0], "data": {"text": "x"}},
        "v": {"label": None, "weak_labels": [-1], "data": {"text": "é"}},
    }
    assert read_wrench(tmp_path / "train.json").messages["tag"].to_list() == [None, None]


@pytest.mark.parametrize(
    ("rows", "classes", "error", "message"),
    [
        ("[]", {"0": "a"}, DataError, "expected a JSON object of rows"),
        ("{", {"0": "a"}, DataError, "the file is not WRENCH JSON"),
        ({}, {"0": "a"}, DataError, "there is no row with weak labels"),
        ({"0": {"weak_labels": [0]}, "1": {"weak_labels": [0, 0]}}, {"0": "a"}, DataError, "expected 1 weak_labels in row '1'"),
        ({"0": {"weak_labels": [0], "label": 7}}, {"0": "a"}, DataError, "the label of row '0' is 7, classes are 0 to 0"),
        ({"0": {"weak_labels": [3], "label": 0}}, {"0": "a"}, RulesError, "has 3 in row 0, rule 'rule_0'"),
        ({"0": {"weak_labels": [float("nan")]}}, {"0": "a"}, DataError, "weak_labels must be whole numbers, not float64"),
        ({"0": {"weak_labels": [0]}}, {"1": "a"}, DataError, "the classes are not numbered 0, 1, 2"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_wrench_json_is_refused(
    tmp_path: Path, rows: Any, classes: Any, error: type[Exception], message: str
) -> None:
    (tmp_path / "train.json").write_text(rows if isinstance(rows, str) else json.dumps(rows))
    (tmp_path / "label.json").write_text(json.dumps(classes))
    with pytest.raises(error) as caught:
        read_wrench(tmp_path / "train.json")
    assert message in str(caught.value)


def test_votes_of_other_rows_than_the_messages_are_refused(tmp_path: Path, rule_set: Any) -> None:
    rules = rule_set({"name": "r", "tag": "a", "any": ["x"]}, tags=["a"])
    votes = pl.DataFrame({"id": ["u"], "r": pl.Series(["a"], dtype=pl.Enum(["a"]))})
    with pytest.raises(DataError, match="not of the same rows"):
        write_wrench(tmp_path / "x.json", votes, rules, pl.DataFrame({"id": ["v"]}))
    with pytest.raises(MissingColumn, match="no column 'id'"):
        write_wrench(tmp_path / "x.json", votes, rules, pl.DataFrame({"key": ["v"]}))
    with pytest.raises(DataError, match="'z' is not a tag"):
        write_wrench(tmp_path / "x.json", votes, rules, pl.DataFrame({"id": ["u"], "tag": ["z"]}))

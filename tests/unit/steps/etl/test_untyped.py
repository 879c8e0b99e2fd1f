from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from structlog.testing import capture_logs

from kommuna.errors import DataError
from kommuna.steps.etl.untyped import read_untyped


def read(folder: Path, content: str, name: str = "rows.csv", **options: Any) -> pl.DataFrame:
    (folder / name).write_text(content, encoding="utf-8")
    return read_untyped(folder / name, **options).collect()


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (["1", "-20", ""], pl.Int64), (["1", "2.5"], pl.Float64), (["1e3", "0.30000000000000004"], pl.Float64),
        (["true", "False"], pl.Boolean), (["007", "7"], pl.String), (["+7", "7"], pl.String), (["", ""], pl.String),
        (["9007199254740993", "1.5"], pl.String), (["123456789012345678901", "1"], pl.String), (["1.5", "NaN"], pl.String),
        (["1e400", "1"], pl.String), (["1", "x"], pl.String), (["2026-09-01", "2026-09-02"], pl.String),
    ],
)  # fmt: skip
def test_the_inferred_type_fits_all_values(tmp_path: Path, values: list[str], dtype: pl.DataType) -> None:
    got = read(tmp_path, "id,v\n" + "".join(f"a,{value}\n" for value in values))
    assert got.schema["v"] == dtype
    assert got["v"].null_count() == values.count("")


def test_a_value_late_in_the_file_also_counts(tmp_path: Path) -> None:
    assert read(tmp_path, "id,v\n" + "a,1\n" * 20_000 + "b,x1\n")["v"][-1] == "x1"


def test_keys_are_read_as_integers_or_texts(tmp_path: Path) -> None:
    assert read(tmp_path, "id,v\n1,1.5\n2,2\n", keys=("id",)).rows() == [(1, 1.5), (2, 2.0)]
    assert read(tmp_path, "id,v\n1.5,1.5\n1.50,2\n", keys=("id",)).rows() == [("1.5", 1.5), ("1.50", 2.0)]


def test_one_read_is_logged_once(tmp_path: Path) -> None:
    with capture_logs() as logs:
        read(tmp_path, "id,v\n1,x\n,\n")
    assert [(line["event"], line["rows"]) for line in logs] == [("table.read", 1), ("table.blank_rows", 1)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.ndjson", '{"id": 1}\n' * 1500 + '{"id": ', "line 1501 is not valid JSON"),
        ("a.ndjson", '{"n": 1.5}\n{"n": 9007199254740993.0}\n', "9007199254740993.0 in line 2 would be read as"),
        ("a.ndjson", '{"n": 1.5}\n{"n": 9007199254740993}\n', "column 'n' of a.ndjson has fractions and 900719925"),
        ("a.ndjson", '{"n\\"": 1}\n{"\\u006e\\"": 1, "\\u006e\\"": 2}\n', "line 2 has the key 'n\"' twice"),
        ("a.parquet", "PAR1" + "x" * 50, "is not a readable Parquet file"),
        ("a.txt", "id\n1\n", "has an unknown format"),
        ("a.csv", "id,id\n1,2\n", "duplicate column 'id'"),
    ],
)
def test_an_unreadable_file_is_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, content, name)

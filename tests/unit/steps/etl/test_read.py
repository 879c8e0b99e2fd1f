from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import TypeAdapter, ValidationError

from kommuna.errors import DataError, MissingColumn, SchemaDrift
from kommuna.spec.table import TableSchema
from kommuna.steps.etl.read import read_table

SCHEMA = TableSchema(columns={"id": "String", "amount": "Float64", "at": "Datetime"})


def written(folder: Path, content: str | bytes, name: str = "rows.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows(path: Path, **columns: str) -> list[tuple[Any, ...]]:
    return read_table(path, table_schema=TableSchema(columns=columns)).table.collect().rows()


def test_csv_values_become_the_declared_types(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "i,f,b,d,t,u,l,s,more\n"
        "1,2.5,true,2026-09-01,2026-09-01T12:30:00,2026-09-01T12:30:00+03:00,a|b,x,0\n"
        " -7 ,1e3,0,,2026-09-01 12:30:00.5,2026-09-01T12:30:00Z,,,0\n"
        ",,,,2026-09-01,,c,,0\n",
    )
    got = rows(
        path,
        i="Int64", f="Float64", b="Boolean", d="Date", t="Datetime", u="DatetimeUTC", l="List(String)", s="String",
    )  # fmt: skip
    assert got == [
        (
            1, 2.5, True, date(2026, 9, 1), datetime(2026, 9, 1, 12, 30), datetime(2026, 9, 1, 9, 30, tzinfo=UTC),
            ["a", "b"], "x",
        ),
        (-7, 1000.0, False, None, datetime(2026, 9, 1, 12, 30, 0, 500_000), datetime(2026, 9, 1, 12, 30, tzinfo=UTC),
         None, None),
        (None, None, None, None, datetime(2026, 9, 1), None, ["c"], None),
    ]  # fmt: skip


def test_metrics_are_rows_and_bytes(tmp_path: Path) -> None:
    path = written(tmp_path, "id\na\nb\n")
    assert read_table(path, table_schema=TableSchema(columns={"id": "String"})).metrics == {"rows": 2.0, "bytes": 7.0}


def test_drift_names_column_expected_found_and_the_first_bad_row(tmp_path: Path) -> None:
    lines = "".join(f"{i},{i}.5,2026-09-01\n" for i in range(16))
    path = written(tmp_path, f"id,amount,at\n{lines}x,abc,2026-09-01\ny,worse,bad\n")
    with pytest.raises(SchemaDrift) as caught:
        read_table(path, table_schema=SCHEMA)
    assert caught.value.what == "column 'amount': expected Float64, found String 'abc' in row 17"
    assert caught.value.where == "rows.csv"


def test_drift_in_a_later_column_but_an_earlier_row_is_named_first(tmp_path: Path) -> None:
    path = written(tmp_path, "id,amount,at\na,1,12.05.2026\nb,x,2026-09-01\n")
    with pytest.raises(SchemaDrift, match=r"column 'at': expected Datetime, found String '12.05.2026' in row 1"):
        read_table(path, table_schema=SCHEMA)


def test_a_drifted_value_of_five_megabytes_is_shortened(tmp_path: Path) -> None:
    path = written(tmp_path, "id,amount,at\na," + "z" * 5_000_000 + ",\n")
    with pytest.raises(SchemaDrift) as caught:
        read_table(path, table_schema=SCHEMA)
    assert len(str(caught.value)) < 400


def test_an_offset_in_a_datetime_column_says_how_to_declare_it(tmp_path: Path) -> None:
    path = written(tmp_path, "id,amount,at\na,1,2026-09-01T10:00:00Z\n")
    with pytest.raises(SchemaDrift, match="declare the column as DatetimeUTC"):
        read_table(path, table_schema=SCHEMA)


def test_integers_beyond_their_type_and_decimals_are_drift(tmp_path: Path) -> None:
    for value in ("300", "1.5", "1_0"):
        with pytest.raises(SchemaDrift, match=f"expected Int8, found String '{value}' in row 2"):
            rows(written(tmp_path, f"n,m\n1,a\n{value},b\n"), n="Int8")


def test_a_missing_column_is_named_with_the_nearest_and_what_was_found(tmp_path: Path) -> None:
    path = written(tmp_path, "id,amont,at\na,1,2026-09-01\n")
    with pytest.raises(MissingColumn) as caught:
        read_table(path, table_schema=SCHEMA)
    assert caught.value.what == "no column 'amount' (did you mean 'amont'?); found: id, amont, at"


def test_a_semicolon_file_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="seems to be separated by ';'"):
        read_table(written(tmp_path, "id;amount;at\na;1;2026-09-01\n"), table_schema=SCHEMA)


def test_a_required_column_with_a_null_is_refused_with_its_row(tmp_path: Path) -> None:
    schema = TableSchema(columns={"id": "String", "n": "Int64"}, required=("n",))
    with pytest.raises(SchemaDrift, match="column 'n': required, found null in row 2"):
        read_table(written(tmp_path, "id,n\na,1\nb,\n"), table_schema=schema)
    frame = pl.DataFrame({"id": ["a", "b"], "n": [1, None]})
    frame.write_parquet(tmp_path / "rows.parquet")
    with pytest.raises(SchemaDrift, match="column 'n': required, found null in row 2"):
        read_table(tmp_path / "rows.parquet", table_schema=schema)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "rows.csv is empty: 0 bytes"),
        (b"id,amount,at\n", "rows.csv has a header and no rows: id, amount, at"),
        ("id,amount,at\na,1,2026-09-01\nПривет,1,2026-09-01\n".encode("cp1251"), "not UTF-8: line 3, byte 28"),
        ("id,amount,at\na,1,2026-09-01\n".encode("utf-16"), "not UTF-8: line 1, byte 0"),
        (b"id,amount,at\na,1,2026-09-01\nb,2\nc,3,2026-09-01\n", "row 2 has 2 fields, the header has 3"),
        (b"id,amount,at\na,1,2026-09-01\nb,2,2026-09-01,9\n", "row 2 has 4 fields, the header has 3"),
        (b'id,amount,at\na,1,2026-09-01\n"b,2,2026-09-01\n', "row 2 has a quote out of place"),
        (b"id,id,amount,at\na,b,1,2026-09-01\n", "column 'id' stands twice"),
    ],
)
def test_a_broken_csv_says_what_is_wrong(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(written(tmp_path, content), table_schema=SCHEMA)


def test_wrong_encoding_deep_in_a_large_file_is_found_at_its_byte(tmp_path: Path) -> None:
    start = "id,text\n" + "".join(f"{i},привет\n" for i in range(100_000))
    path = written(tmp_path, start.encode() + "x,привет\n".encode("cp1251"))
    with pytest.raises(DataError, match=f"line 100002, byte {len(start.encode()) + 2}"):
        rows(path, id="String", text="String")


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file gone.csv"):
        read_table(tmp_path / "gone.csv", table_schema=SCHEMA)


def test_byte_order_mark_crlf_quotes_and_blank_lines_are_read(tmp_path: Path) -> None:
    path = written(tmp_path, '\ufeffid,text\r\na,"x, ""y""\nz"\r\n\r\nb,\r\n\r\n')
    assert rows(path, id="String", text="String") == [("a", 'x, "y"\nz'), ("b", None)]
    assert read_table(path, table_schema=TableSchema(columns={"id": "String"})).metrics["rows"] == 2


def test_a_null_in_the_last_column_is_no_short_row(tmp_path: Path) -> None:
    assert rows(written(tmp_path, "id,n\na,\nb,2\n"), id="String", n="Int64") == [("a", None), ("b", 2)]


def test_a_text_of_five_megabytes_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, "id,text\na," + "я" * 2_500_000 + "\nb,x\n")
    assert [len(text) for _, text in rows(path, id="String", text="String")] == [2_500_000, 1]


def test_undeclared_columns_are_left_out_and_the_declared_order_holds(tmp_path: Path) -> None:
    assert rows(written(tmp_path, "x,id,y\n1,a,2\n"), y="Int64", id="String") == [(2, "a")]


def test_ndjson_is_read_by_name_or_first_bytes(tmp_path: Path) -> None:
    lines = [{"id": 1, "n": 2, "l": ["a"]}, {"id": "b", "n": None}, {"id": "c", "n": 3, "z": 0}]
    content = "\n".join(json.dumps(line) for line in lines)
    for name in ("rows.ndjson", "rows.jsonl", "rows"):
        path = written(tmp_path, content, name)
        assert rows(path, id="String", n="Int64", l="List(String)") == [
            ("1", 2, ["a"]),
            ("b", None, None),
            ("c", 3, None),
        ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": "a", "n": 1}\n{"id": "b", "n": \n', "line 2 is not valid JSON"),
        ('{"id": "a", "n": 1}\n' * 1500 + '{"id": "b"', "line 1501 is not valid JSON"),
        ('{"id": "a", "n": 1}\n[1]\n', "line 2 is no JSON object"),
        ('{"id": "a", "n": 1}\n{"id": "b", "n": "x"}\n', "column 'n': expected Int64, found String 'x' in row 2"),
        ('{"id": "a", "m": 1}\n', r"no column 'n'.*; found: id, m"),
        ("\n\n", "has no rows"),
    ],
)
def test_a_broken_ndjson_says_which_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rows(written(tmp_path, content, "rows.ndjson"), id="String", n="Int64")


def test_a_key_that_comes_late_in_ndjson_is_found(tmp_path: Path) -> None:
    path = written(tmp_path, '{"id": "a"}\n' * 1200 + '{"id": "b", "n": 5}\n', "rows.ndjson")
    assert rows(path, id="String", n="Int64")[-1] == ("b", 5)


def test_parquet_types_may_widen_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pl.DataFrame({"id": ["a", "b"], "n": pl.Series([1, 2], dtype=pl.Int8)}).write_parquet(path)
    got = read_table(path, table_schema=TableSchema(columns={"n": "Int64", "id": "String"}))
    assert got.table.collect_schema() == {"n": pl.Int64, "id": pl.String}
    assert got.metrics["rows"] == 2
    with pytest.raises(SchemaDrift, match="column 'id': expected Int64, found String 'a' in row 1"):
        rows(path, id="Int64")
    with pytest.raises(SchemaDrift, match="column 'n': expected String, found Int8 '1' in row 1"):
        rows(path, n="String")


def test_a_truncated_or_damaged_parquet_is_a_data_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pl.DataFrame({"n": range(1000)}).write_parquet(path)
    whole = path.read_bytes()
    for broken in (whole[:-20], whole[: len(whole) // 2], b"junk" * 10, whole[:40] + whole[60:]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"rows.parquet is no readable Parquet file"):
            rows(path, n="Int64")


def test_an_unknown_type_is_refused_with_the_nearest() -> None:
    adapter = TypeAdapter(TableSchema)
    for wrong, right in (("Strng", "String"), ("int64", "Int64"), ("float", "Float64"), ("DateTime", "Datetime")):
        with pytest.raises(
            ValidationError, match=rf"column 'a' has unknown type '{wrong}' \(did you mean '{right}'\?\)"
        ):
            adapter.validate_python({"columns": {"a": wrong}})


def test_a_required_column_has_to_be_declared() -> None:
    with pytest.raises(ValidationError, match=r"required column 'ids' is not declared \(did you mean 'id'\?\)"):
        TableSchema(columns={"id": "String"}, required=("ids",))

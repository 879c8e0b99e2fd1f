from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zipfile
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from kommuna.errors import DataError, MissingColumn, SchemaDrift
from kommuna.spec.table import TableSchema
from kommuna.steps.etl.read import read_table
from kommuna.steps.etl.untyped import read_untyped

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
    assert read_table(path, table_schema=TableSchema(columns={"id": "String"})).metrics == {
        "rows": 2.0, "bytes": 7.0, "blank_rows": 0.0,
    }  # fmt: skip


def test_drift_names_column_expected_found_and_the_first_bad_row(tmp_path: Path) -> None:
    lines = "".join(f"{i},{i}.5,2026-09-01\n" for i in range(16))
    path = written(tmp_path, f"id,amount,at\n{lines}x,abc,2026-09-01\ny,worse,bad\n")
    with pytest.raises(SchemaDrift) as caught:
        read_table(path, table_schema=SCHEMA)
    assert caught.value.what == "column 'amount': expected Float64, found String 'abc' in row 17"
    assert caught.value.where == "rows.csv"


def test_the_drift_in_the_earliest_row_is_reported_whatever_its_column(tmp_path: Path) -> None:
    path = written(tmp_path, "id,amount,at\na,1,12.05.2026\nb,x,2026-09-01\n")
    with pytest.raises(SchemaDrift, match=r"column 'at': expected Datetime, found String '12.05.2026' in row 1"):
        read_table(path, table_schema=SCHEMA)


def test_a_drifted_value_of_five_megabytes_is_shortened(tmp_path: Path) -> None:
    path = written(tmp_path, "id,amount,at\na," + "z" * 5_000_000 + ",\n")
    with pytest.raises(SchemaDrift) as caught:
        read_table(path, table_schema=SCHEMA)
    assert len(str(caught.value)) < 400


def test_the_error_for_a_time_with_an_offset_says_how_to_declare_it(tmp_path: Path) -> None:
    path = written(tmp_path, "id,amount,at\na,1,2026-09-01T10:00:00Z\n")
    with pytest.raises(SchemaDrift, match="declare the column as DatetimeUTC"):
        read_table(path, table_schema=SCHEMA)


def test_integers_beyond_their_type_and_decimals_are_drift(tmp_path: Path) -> None:
    for value in ("300", "1.5", "1_0"):
        with pytest.raises(SchemaDrift, match=f"expected Int8, found String '{value}' in row 2"):
            rows(written(tmp_path, f"n,m\n1,a\n{value},b\n"), n="Int8")


def test_the_error_for_a_missing_column_suggests_the_nearest_and_lists_the_columns(tmp_path: Path) -> None:
    path = written(tmp_path, "id,amont,at\na,1,2026-09-01\n")
    with pytest.raises(MissingColumn) as caught:
        read_table(path, table_schema=SCHEMA)
    assert caught.value.what == "rows.csv has no column 'amount' (did you mean 'amont'?)"
    assert caught.value.fix == "its columns are: id, amont, at"


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
        (b'id,amount,at\na,1,2026-09-01\n"b,2,2026-09-01\n', "row 2 has a misplaced quote"),
        (b"id,id,amount,at\na,b,1,2026-09-01\n", "duplicate column 'id'"),
    ],
)
def test_the_error_for_a_broken_csv_says_what_is_wrong(tmp_path: Path, content: bytes, message: str) -> None:
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


def test_a_null_in_the_last_column_is_not_a_short_row(tmp_path: Path) -> None:
    assert rows(written(tmp_path, "id,n\na,\nb,2\n"), id="String", n="Int64") == [("a", None), ("b", 2)]


def test_a_text_of_five_megabytes_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, "id,text\na," + "я" * 2_500_000 + "\nb,x\n")
    assert [len(text) for _, text in rows(path, id="String", text="String")] == [2_500_000, 1]


def test_undeclared_columns_are_left_out_and_the_declared_order_is_used(tmp_path: Path) -> None:
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
        ('{"id": "a", "n": 1}\n[1]\n', "line 2 is not a JSON object"),
        ('{"id": "a", "n": 1}\n{"id": "b", "n": "x"}\n', "column 'n': expected Int64, found String 'x' in row 2"),
        ('{"id": "a", "m": 1}\n', "rows.ndjson has no column 'n'"),
        ("\n\n", "has no rows"),
        ('\ufeff{"id": "a", "n": 1}\n', "begins with a byte order mark"),
        (
            '{"id": "a", "n": 1}\n' * 1500 + '{"id": "\\ud83d", "n": 1}\n',
            r"line 1501 holds .ud83d, half of a surrogate pair",
        ),
        ('{"id": "a", "n": 1}\n\n{"id": "b", "n": 1e999}\n', "line 3 cannot be read"),
        ('{"id": "a", "n": NaN}\n', "line 1 is not valid JSON: it holds NaN, which JSON does not have"),
        ('{"id": "a", "n": 1}\n\x0b\n', "line 2 is not valid JSON"),
        ('{"id": "a", "n": 1}\n{"id": "b", "n": 1, "n": 2}\n', "line 2 has the key 'n' twice"),
        (
            '{"id": "a", "n": 1}\n' * 1500 + '{"n": 1}\n{"i\\u0064": "b", "n": 1, "id": "c"}\n',
            "line 1502 has the key 'id' twice",
        ),
        ('{"id": "a", "n": 1}\n{"id": ' + "[" * 20_000 + "]" * 20_000 + "}\n", "line 2 is not valid JSON"),
        ('{"id": "a", "n": 1}\n' * 1200 + '{"id": ' + "[" * 20_000 + "]" * 20_000 + "}\n", "line 1201"),
    ],
)
def test_the_error_for_broken_ndjson_names_the_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rows(written(tmp_path, content, "rows.ndjson"), id="String", n="Int64")


@pytest.mark.parametrize("number", ["9007199254740993.0", "90071992547409930e-1", "9.007199254740993e15"])
@pytest.mark.parametrize("dtype", ["Int64", "Float64", "String"])
def test_whole_numbers_that_polars_would_read_as_floats_are_refused(tmp_path: Path, number: str, dtype: str) -> None:
    path = written(tmp_path, f'{{"n": 1, "x": 0}}\n{{"n": {number}, "x": 0}}\n', "rows.ndjson")
    with pytest.raises(DataError, match=f"column 'n': {number} in line 2 would be read as 9007199254740992"):
        rows(path, n=dtype)
    assert rows(path, x="Int64") == [(0,), (0,)]


@pytest.mark.parametrize("number", ["9007199254740992.0", "0.12345678901234567", "1234567890.1234567", "1e15"])
def test_numbers_that_floats_represent_are_read(tmp_path: Path, number: str) -> None:
    assert rows(written(tmp_path, f'{{"n": {number}}}\n', "rows.ndjson"), n="Float64") == [(float(number),)]


@pytest.mark.timeout(30)
@pytest.mark.parametrize("part", ["1", "0", "1."])
def test_a_text_of_many_digits_is_read_in_one_pass(tmp_path: Path, part: str) -> None:
    text = part * 500_000
    assert rows(written(tmp_path, f'{{"text": "{text}"}}\n', "rows.ndjson"), text="String") == [(text,)]


def test_a_column_may_have_any_name(tmp_path: Path) -> None:
    with pytest.raises(SchemaDrift, match="column 'self': expected Int8, found String 'x'"):
        rows(written(tmp_path, '{"self": "x"}\n', "rows.ndjson"), self="Int8")


def test_a_key_that_first_appears_late_in_ndjson_is_found(tmp_path: Path) -> None:
    path = written(tmp_path, '{"id": "a"}\n' * 1200 + '{"id": "b", "n": 5}\n', "rows.ndjson")
    assert rows(path, id="String", n="Int64")[-1] == ("b", 5)


def test_parquet_types_may_only_widen(tmp_path: Path) -> None:
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
        with pytest.raises(DataError, match=r"rows.parquet is not a readable Parquet file"):
            rows(path, n="Int64")


def test_an_unknown_type_is_refused_with_the_nearest() -> None:
    adapter = TypeAdapter(TableSchema)
    for wrong, right in (("Strng", "String"), ("int64", "Int64"), ("float", "Float64"), ("DateTime", "Datetime")):
        with pytest.raises(
            ValidationError, match=rf"column 'a' has unknown type '{wrong}' \(did you mean '{right}'\?\)"
        ):
            adapter.validate_python({"columns": {"a": wrong}})


def test_a_required_column_must_be_declared() -> None:
    with pytest.raises(ValidationError, match=r"required column 'ids' is not declared \(did you mean 'id'\?\)"):
        TableSchema(columns={"id": "String"}, required=("ids",))


@pytest.mark.parametrize("wrong", ['"x"', "5", "true", '{"k": 1}', '"[1]"'])
@pytest.mark.parametrize("before", [0, 1500])
def test_a_value_that_is_not_a_list_is_reported_with_its_row(tmp_path: Path, wrong: str, before: int) -> None:
    path = written(tmp_path, '{"l": ["a"]}\n' * before + f'{{"l": {wrong}}}\n{{"l": null}}\n', "rows.ndjson")
    with pytest.raises(DataError, match=rf"column 'l': expected List\(String\), found .* in row {before + 1}"):
        rows(path, l="List(String)")


def test_escaped_characters_of_ndjson_are_read(tmp_path: Path) -> None:
    path = written(tmp_path, json.dumps({"id": "\U0001f600 \\ud800 я"}) + "\n", "rows.ndjson")
    assert rows(path, id="String") == [("\U0001f600 \\ud800 я",)]


@pytest.mark.parametrize(
    ("content", "row"),
    [
        ('id,channel,text\n1,карта,"привет"\n2,карта,экран 15"\n3,карта,"ок"\n4,карта,"да"\n', "row 2"),
        ('id,channel,text\n1,карта,привет\n2,карта,экран 15"\n3,карта,ок\n4,карта,"да"\n', "row 2"),
        ('id,channel,text\n1,a,b\n2,a,x 15"\n3,a,b\n', "row 2"),
        ('id,channel,text\n1,a,"b"\n2,a,"x "y", z"\n3,a,"b"\n', "row 2"),
        ('id,channel,text\n1,a,"b"\n2,a,"x"y"\n3,a,"b"\n4,a,"b"\n', "row 2"),
        ('id,channel,text\n1,a,"b\n\nc"\n\n2,a,"b" \n', "row 3"),
        ('id,channel,text\r\n1,a,b\r\n2,a"\r",b\r\n', "row 2"),
        ('id,"chan"nel,text\n1,a,b\n', "the header"),
        ("id,channel,text\n" + '1,a,"b"\n' * 300_000 + '2,a,x 15"\n' + '1,a,"b"\n' * 10, "row 300001"),
    ],
)
def test_a_stray_quote_is_refused_with_its_row(tmp_path: Path, content: str, row: str) -> None:
    with pytest.raises(DataError, match=rf"rows.csv: {row} has a misplaced quote"):
        rows(written(tmp_path, content), id="String", channel="String", text="String")


def test_quotes_that_every_reader_reads_as_letters_are_read(tmp_path: Path) -> None:
    path = written(tmp_path, 'id,text\n1,ООО "Ромашка" и "Лютик"\n2,""\n3,"a ""b"""\n4,x""\n')
    assert rows(path, id="Int64", text="String") == [
        (1, 'ООО "Ромашка" и "Лютик"'), (2, ""), (3, 'a "b"'), (4, 'x""'),
    ]  # fmt: skip


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_csv_is_read_as_by_the_strict_csv_module_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    field = st.text('ab",\n\r', max_size=4)
    made = io.StringIO()
    writer = csv.writer(made, lineterminator=data.draw(st.sampled_from(["\n", "\r\n"])))
    writer.writerow(["i", "t", "u"])
    for i in range(data.draw(st.integers(1, 5))):
        writer.writerow([f"{i}", data.draw(field), data.draw(field)])
    text = made.getvalue()
    for _ in range(data.draw(st.integers(0, 2))):  # edits by hand
        at = data.draw(st.integers(6, len(text)))
        text = text[:at] + data.draw(st.sampled_from('",\n\ra')) + text[at:]
    path = written(tmp_path, text)
    try:
        got = rows(path, i="String", t="String", u="String")
    except DataError as error:
        if not re.search("row|header", error.what):
            raise
        return
    wanted = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row and any(row)][1:]
    assert [[value or "" for value in row] for row in got if any(row)] == wanted


def test_an_undamaged_file_is_never_refused(tmp_path: Path) -> None:
    values = ["", "a", '"', '""', ",", "\n", 'x "15" y', '"x"', "\r\n", ' "a"']
    made = io.StringIO()
    writer = csv.writer(made)
    writer.writerows([["id", "t"], *([f"{i}", value] for i, value in enumerate(values))])
    got = rows(written(tmp_path, made.getvalue()), id="Int64", t="String")
    assert [value or "" for _, value in got] == values


def test_in_a_file_with_one_column_a_blank_line_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text("name\nИванов\n\nПетров\n")
    read = read_table(tmp_path / "names.csv", table_schema=TableSchema(columns={"name": "String"}))
    assert read.table.collect()["name"].to_list() == ["Иванов", None, "Петров"]


def test_rows_of_commas_are_counted_and_blank_lines_are_not(tmp_path: Path) -> None:
    path = written(tmp_path, "id,text\na,x\n\n,\nb,y\n,\n\n")
    read = read_table(path, table_schema=TableSchema(columns={"id": "String"}))
    assert (read.metrics["rows"], read.metrics["blank_rows"]) == (2.0, 2.0)
    assert read.table.collect().rows() == [("a",), ("b",)]


def test_a_second_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 2 repeats the header"):
        rows(written(tmp_path, "id,text\na,x\nid,text\nb,y\n"), id="String")


def test_lines_that_end_in_a_carriage_return_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="its lines end in a carriage return alone"):
        rows(written(tmp_path, "id,text\ra,x\rb,y\r"), id="String")


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("Float64", "9007199254740993"), ("Float64", "+123456789012345678"), ("Float64", "9007199254740993.0"),
        ("Float32", "16777217"), ("Float64", "1e400"), ("Float64", "-1e999"), ("Float64", "NaN"), ("Float32", "inf"),
        ("Float64", "-Infinity"), ("Float32", "1e39"),
    ],
)  # fmt: skip
def test_a_number_that_a_float_cannot_represent_is_refused_with_its_row(tmp_path: Path, dtype: str, value: str) -> None:
    found = rf"column 'n': expected {dtype}, found String '{re.escape(value)}' in row 2"
    with pytest.raises(SchemaDrift, match=found) as caught:
        rows(written(tmp_path, f"id,n\na,1.5\nb,{value}\n"), id="String", n=dtype)
    assert "non_finite: null" in caught.value.fix or "Int64" in caught.value.fix or "e" in value
    with pytest.raises(SchemaDrift, match=found):
        rows(written(tmp_path, f'{{"n": "1.5"}}\n{{"n": "{value}"}}\n', "rows.ndjson"), n=dtype)


def test_numbers_that_floats_round_as_usual_are_read(tmp_path: Path) -> None:
    values = ["9007199254740992", "0.30000000000000004", "1e300", "10000000000000000000", "9007199254740993.5", "1e23"]
    got = rows(written(tmp_path, "id,n\n" + "".join(f"a,{value}\n" for value in values)), n="Float64")
    assert got == [(float(value),) for value in values]


def test_nan_and_infinity_are_null_if_so_declared(tmp_path: Path) -> None:
    schema = TableSchema(columns={"n": "Float64"}, non_finite="null")
    wanted = [(None,), (None,), (2.0,), (None,)]
    path = written(tmp_path, "id,n\na,NaN\nb,-inf\nc,2\nd,\n")
    assert read_table(path, table_schema=schema).table.collect().rows() == wanted
    pl.DataFrame({"n": [float("nan"), float("-inf"), 2.0, None]}).write_parquet(tmp_path / "rows.parquet")
    assert read_table(tmp_path / "rows.parquet", table_schema=schema).table.collect().rows() == wanted
    required = schema.model_copy(update={"required": ("n",)})
    for name in ("rows.csv", "rows.parquet"):
        with pytest.raises(SchemaDrift, match="column 'n': required, found null in row 1"):
            read_table(tmp_path / name, table_schema=required)
    with pytest.raises(SchemaDrift, match="found String '1e400' in row 1"):  # it is a finite number
        read_table(written(tmp_path, "id,n\na,1e400\n"), table_schema=schema)


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), 2**53 + 1, Decimal(2**53 + 1), Decimal("12345678901234567.25")],
)
def test_a_parquet_value_that_float64_cannot_represent_is_refused_with_its_row(tmp_path: Path, value: Any) -> None:
    frame = pl.DataFrame(
        {"n": [type(value)(1), value]}, schema={"n": pl.Decimal(38, 2)} if isinstance(value, Decimal) else None
    )
    frame.write_parquet(tmp_path / "rows.parquet")
    with pytest.raises(SchemaDrift, match=r"column 'n': expected Float64, found .* in row 2"):
        rows(tmp_path / "rows.parquet", n="Float64")


def test_decimal_amounts_are_read_as_float64(tmp_path: Path) -> None:
    frame = pl.DataFrame({"n": [Decimal("1.10"), Decimal("-999999999.99"), None]}, schema={"n": pl.Decimal(38, 2)})
    frame.write_parquet(tmp_path / "rows.parquet")
    assert rows(tmp_path / "rows.parquet", n="Float64") == [(1.1,), (-999999999.99,), (None,)]


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("Date", "01-09-26"), ("Date", "26-01-02"), ("Datetime", "26-01-02"), ("Datetime", "26-01-02T10:00:00"),
        ("Datetime", "2026-09-01T12:30:60"), ("DatetimeUTC", "2026-09-01T12:30:60Z"), ("Datetime", "2026-09-01T24:00:00"),
        ("Date", "0000-01-01"), ("Datetime", "0000-02-01T10:00"),
        ("DatetimeUTC", "9999-12-31T23:59:59-05:00"), ("DatetimeUTC", "26-09-01T12:30:00Z"), ("Date", "2026-9-1"), ("Datetime", "2026-09-01T1:3"),
    ],
)  # fmt: skip
def test_ambiguous_times_are_drift(tmp_path: Path, dtype: str, value: str) -> None:
    with pytest.raises(SchemaDrift, match=f"column 'd': expected {dtype}, found String '{value}' in row 1"):
        rows(written(tmp_path, f"id,d\na,{value}\n"), d=dtype)


@pytest.mark.parametrize(
    "value", ["2026-09-01T12:30Z", "2026-09-01 15:30+03:00", "2026-09-01T15:30:00+0300", "2026-09-01t12:30:00.0z",
              "2026-09-01T12:30+00"],
)  # fmt: skip
def test_times_with_an_offset_need_no_seconds(tmp_path: Path, value: str) -> None:
    path = written(tmp_path, f"id,d\na,{value}\n")
    assert rows(path, d="DatetimeUTC") == [(datetime(2026, 9, 1, 12, 30, tzinfo=UTC),)]


def _zipped(name: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, "x")
    return packed.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.csv", gzip.compress(b"id\na\n", mtime=0), "rows.csv is a gzip archive"),
        ("rows.csv", b"\x28\xb5\x2f\xfd" + bytes(range(200)), "rows.csv is a Zstandard archive"),
        ("rows.csv", _zipped("xl/workbook.xml"), "rows.csv is an Excel workbook"),
        ("rows.ndjson", _zipped("rows.ndjson"), "rows.ndjson is a ZIP archive"),
        ("rows.csv", b"\xd0\xcf\x11\xe0" + bytes(200), "rows.csv is an old Excel or Word file"),
        ("rows.parquet", b"SQLite format 3\0" + bytes(200), "rows.parquet is a SQLite database"),
        ("rows.csv", b"PAR1" + bytes(200), "rows.csv is a Parquet file, read as csv"),
        ("rows.csv", b'[{"id": 1}]', "rows.csv is one JSON array"),
        ("rows.json", b'[\n  {"id": 1}\n]', "rows.json is one JSON array"),
        ("rows.csv", b'{"id": 1}\n', "rows.csv holds JSON, read as CSV"),
        ("rows.csv", b"<!DOCTYPE html><html></html>", "rows.csv is an HTML page"),
        ("rows.csv", "номер,текст\nа,Перевод\n".encode("utf-16-le"), "rows.csv is not UTF-8: line 1, byte 0"),
        ("rows.ndjson", '{"номер": "текст"}\n'.encode("utf-16-be"), "rows.ndjson is not UTF-8: line 1, byte 0"),
    ],
)  # fmt: skip
def test_the_error_for_another_file_format_names_it(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rows(written(tmp_path, content, name), id="String")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").mkdir()
    with pytest.raises(DataError, match="is a folder, not a file"):
        rows(tmp_path / "rows.csv", id="String")


def test_duplicate_keys_inside_values_or_undeclared_columns_are_allowed(tmp_path: Path) -> None:
    path = written(tmp_path, '{"id": "\\"n\\": 1", "n": 1, "x": {"n": 2, "n": 3}, "y": 1, "y": 2}\n', "rows.ndjson")
    assert rows(path, id="String", n="Int64") == [('"n": 1', 1)]


def test_quotes_in_column_names_are_read_as_in_values(tmp_path: Path) -> None:
    path = written(tmp_path, '"the ""id""",n,n\na,1,2\n')
    assert rows(path, **{'the "id"': "String"}) == [("a",)]
    path = written(tmp_path, '"the ""id""",n\na,1\n')
    assert read_untyped(path).collect().to_dicts() == [{'the "id"': "a", "n": 1}]


def test_a_declared_column_name_that_is_a_pattern_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "*,^n$,n\na,b,1\n")
    assert rows(path, n="Int64") == [(1,)]
    for name in ("*", "^n$"):
        with pytest.raises(ValidationError, match="has the name of a pattern"):
            TableSchema(columns={name: "String"})
    with pytest.raises(DataError, match=r"column '\*' of rows.csv is named like a pattern"):
        read_untyped(path)
    with pytest.raises(DataError, match=r"column '\^n\$' of rows.ndjson"):
        read_untyped(written(tmp_path, '{"^n$": 1}\n', "rows.ndjson"))


def test_a_column_may_have_the_name_of_an_internal_one(tmp_path: Path) -> None:
    path = written(tmp_path, "#row,rows,len\n1,2,3\n")
    assert rows(path, **{"#row": "Int64", "rows": "Int64", "len": "Float64"}) == [(1, 2, 3.0)]

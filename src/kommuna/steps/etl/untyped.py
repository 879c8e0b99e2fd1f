"""Reads files without a declared schema: types are inferred from all values, and read as strictly as declared ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from kommuna.errors import DataError
from kommuna.spec.table import TableSchema, is_pattern
from kommuna.steps.etl.csv.faults import csv_header, parquet_faults
from kommuna.steps.etl.csv.scan import scan_texts
from kommuna.steps.etl.dtypes import inexact, polars_dtype
from kommuna.steps.etl.formats import ENDINGS, check_file, check_format, format_of
from kommuna.steps.etl.json_lines import count_json_rows, json_columns, json_fault
from kommuna.steps.etl.scan import read_checked, scan_checked, separator_fault

# The form of numbers: 007 and +7 are texts, unlike 7.
_WHOLE = "^-?(?:0|[1-9][0-9]{0,17})$"
_NUMBER = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$"


def read_untyped(source: Path, *, keys: Sequence[str] = ()) -> pl.LazyFrame:
    """Scans a CSV, NDJSON or Parquet file, with types inferred from all of its values.

    A column of CSV is Boolean (true and false), Int64, Float64 or otherwise String.

    Args:
        source: a local file.
        keys: columns of CSV that are read as Int64 or String, never as Float64: 1.5 and 1.50 are different keys.

    Raises:
        DataError: the file cannot be read, as in `read_table`.
    """
    check_file(source)
    kind = format_of(source)
    check_format(source, kind)
    if source.suffix.lower() not in ENDINGS:
        fix = f"name the file by its format: {', '.join(ENDINGS)}"
        raise DataError(f"{source.name} has an unknown format", where=str(source), fix=fix)
    if kind == "csv":
        return read_checked(source, TableSchema(columns=_types(source, keys)), kind)[0]
    table = _ndjson(source) if kind == "ndjson" else _parquet(source)
    _refuse_patterns(table.collect_schema().names(), source)
    return table


def _types(source: Path, keys: Sequence[str]) -> dict[str, str]:
    header = csv_header(source)
    if fault := separator_fault(header, source):
        raise fault
    _refuse_patterns(header, source)
    names = [name for name in header if header.count(name) == 1]
    scan_checked(source, TableSchema(columns=dict.fromkeys(header, "String")), "csv")  # rows, quotes, encoding
    raw = scan_texts(source, header)
    tests = {name: _tests(pl.col(name)) for name in names}
    tests |= {name: {"Int64": tests[name]["Int64"]} for name in keys if name in tests}
    found = (
        raw.select(
            pl.lit(True).alias("#"),
            *(test.all().alias(f"{dtype} {name}") for name, each in tests.items() for dtype, test in each.items()),
            *(pl.col(name).count().alias(f"# {name}") for name in tests),
        )
        .collect(engine="streaming")
        .row(0, named=True)
    )
    types = dict.fromkeys(header, "String")
    for name, each in tests.items():
        if found[f"# {name}"]:
            types[name] = next((dtype for dtype in each if found[f"{dtype} {name}"]), "String")
    return types


def _refuse_patterns(names: Sequence[str], source: Path) -> None:
    for name in names:
        if is_pattern(name):
            what = f"column '{name}' of {source.name} is named like a pattern"
            raise DataError(what, where=str(source), fix="rename it: a pattern means every column that matches it")


def _tests(column: pl.Expr) -> dict[str, pl.Expr]:
    number = column.str.contains(_NUMBER) & column.cast(polars_dtype("Float64"), strict=False).is_finite()
    return {
        "Boolean": column.str.to_lowercase().is_in(["true", "false"]),
        "Int64": column.str.contains(_WHOLE),
        "Float64": number & ~inexact(column, "Float64"),
    }


def _ndjson(source: Path) -> pl.LazyFrame:
    names = json_columns(source)
    try:
        table = pl.scan_ndjson(source, infer_schema_length=None)
        count_json_rows(source, table.collect_schema().names())
        table.select(pl.all().null_count()).collect(engine="streaming")
        _refuse_lost_digits(source, [name for name, dtype in table.collect_schema().items() if dtype == pl.Float64()])
    except pl.exceptions.PolarsError as error:
        raise json_fault(source, set(), dict.fromkeys(names, pl.String()), error) from None
    return table


def _refuse_lost_digits(source: Path, floats: Sequence[str]) -> None:
    """Refuses whole numbers that Float64 would change, in columns that also have fractions."""
    texts = pl.scan_ndjson(source, schema=dict.fromkeys(floats, pl.String()))
    lost = texts.select(pl.col(name).filter(inexact(pl.col(name), "Float64")).first() for name in floats)
    for name, value in lost.collect(engine="streaming").row(0, named=True).items() if floats else ():
        if value is not None:
            what = f"column '{name}' of {source.name} has fractions and {value}, which Float64 would change"
            raise DataError(what, where=str(source), fix="write its values as texts")


def _parquet(source: Path) -> pl.LazyFrame:
    with parquet_faults(source):
        table = pl.scan_parquet(source, glob=False)
        table.select(pl.all().null_count()).collect(engine="streaming")
    return table

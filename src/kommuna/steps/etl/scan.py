"""Scans CSV, NDJSON and Parquet files with a declared schema, after one pass that checks every value."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

import polars as pl
import structlog

from kommuna.errors import DataError, SchemaDrift
from kommuna.spec.table import TableSchema
from kommuna.steps.columns import ROW, missing_column, shortened
from kommuna.steps.etl.csv.faults import check_rows_of_width, csv_fault, csv_header, parquet_faults
from kommuna.steps.etl.csv.scan import scan_texts
from kommuna.steps.etl.csv.survey import survey_csv
from kommuna.steps.etl.dtypes import changed_values, inexact, not_finite, parsed, polars_dtype, suspicious, widens
from kommuna.steps.etl.formats import Format as FileFormat
from kommuna.steps.etl.formats import check_format
from kommuna.steps.etl.json_lines import count_json_rows, json_columns, json_fault

log = structlog.get_logger()


def read_checked(source: Path, declared: TableSchema, kind: FileFormat) -> tuple[pl.LazyFrame, dict[str, float]]:
    """Scans the declared columns of a file after checking every value, with the errors of `read_table`.

    Args:
        source: a local file.
        declared: the columns and their types.
        kind: the file's format.

    Returns:
        The table and the metrics of `read_table`.
    """
    check_format(source, kind)
    size = source.stat().st_size
    table, rows, blank = scan_checked(source, declared, kind)
    log.info("table.read", file=source.name, format=kind, rows=rows, bytes=size)
    if blank:
        log.warning("table.blank_rows", file=source.name, rows=blank, hint="rows with only commas are left out")
    return table, {"rows": float(rows), "bytes": float(size), "blank_rows": float(blank)}


def scan_checked(source: Path, declared: TableSchema, kind: FileFormat) -> tuple[pl.LazyFrame, int, int]:
    """Scans the declared columns of a file of a known format after checking every value; logs nothing.

    Args:
        source: a local file.
        declared: the columns and their types.
        kind: the file's format.

    Returns:
        The table, its number of rows, and the number of blank rows that are left out.
    """
    read = {"csv": _read_csv, "ndjson": _read_ndjson, "parquet": _read_parquet}[kind]
    table, rows, blank = read(source, declared)
    if rows == 0:
        raise DataError(f"{source.name} has no rows", where=str(source), fix="export the file again")
    return table, rows, blank


def _read_csv(source: Path, declared: TableSchema) -> tuple[pl.LazyFrame, int, int]:
    header = csv_header(source)
    _check_columns(declared, header, source)
    lines = check_rows_of_width(source, len(header))
    try:
        raw = scan_texts(source, header)
        columns = raw.collect_schema().names()
        blank = pl.all_horizontal(pl.col(name).is_null() for name in columns)
        # All columns are compared with the header only if the first one matches in some row.
        begins = _first(pl.col(columns[0]) == header[0])
        found = _check_rows(raw, declared, source, blank=blank.sum(), begins=begins)
        if len(header) > 1 and found["begins"] is not None:
            _refuse_second_header(raw, dict(zip(columns, header, strict=True)), source)
    except pl.exceptions.PolarsError as error:
        raise csv_fault(source, len(header), error) from None
    _reconcile(source, found["rows"], lines)
    if len(header) == 1:
        return _selected(raw, declared), found["rows"], 0
    rows = found["rows"] - found["blank"]
    if found["blank"]:
        raw = raw.filter(~blank)
    return _selected(raw, declared), rows, found["blank"] - survey_csv(source).blank if found["blank"] else 0


def _refuse_second_header(raw: pl.LazyFrame, header: dict[str, str], source: Path) -> None:
    again = pl.all_horizontal(pl.col(name) == own for name, own in header.items())
    row = raw.with_row_index(ROW).select(_first(again)).collect(engine="streaming").item()
    if row is not None:
        raise DataError(
            f"{source.name}: row {row + 1} repeats the header",
            where=str(source),
            fix="several files were concatenated: keep only the first header",
        )


def _read_ndjson(source: Path, declared: TableSchema) -> tuple[pl.LazyFrame, int, int]:
    found = json_columns(source)
    lines = count_json_rows(source, declared.columns)
    lists = {name for name, dtype in declared.columns.items() if dtype == "List(String)"}
    texts = {name: polars_dtype("List(String)" if name in lists else "String") for name in declared.columns}
    try:
        raw = pl.scan_ndjson(source, schema=texts)
        absent = [name for name in declared.columns if name not in found]  # among those of the first lines
        if absent:
            counts = raw.select(pl.col(absent).count()).collect(engine="streaming").row(0, named=True)
            found += [name for name in absent if counts[name]]
        _check_columns(declared, found, source)
        every = pl.sum_horizontal(pl.all().null_count())  # reads every value
        rows = _check_rows(raw, declared, source, lists=lists, nulls=every)["rows"]
    except pl.exceptions.PolarsError as error:
        raise json_fault(source, lists, texts, error) from None
    _reconcile(source, rows, lines)
    return _selected(raw, declared, lists), rows, 0


def _reconcile(source: Path, read: int, lines: int) -> None:
    if read != lines:
        raise DataError(
            f"{source.name} has {lines} rows, of which {read} were read",
            where=str(source),
            fix="export the file again; a quote or a line break may be misplaced",
        )


def _selected(raw: pl.LazyFrame, declared: TableSchema, lists: Set[str] = frozenset()) -> pl.LazyFrame:
    return raw.select(_value(name, declared, lists).alias(name) for name in declared.columns)


def _value(name: str, declared: TableSchema, lists: Set[str]) -> pl.Expr:
    if name in lists:
        return pl.col(name)
    dtype = declared.columns[name]
    return _finite(parsed(pl.col(name), dtype), dtype, declared)


def _finite(value: pl.Expr, dtype: str, declared: TableSchema) -> pl.Expr:
    """Floats as declared: values that are not finite become null, or have been refused before."""
    if dtype.startswith("Float") and declared.non_finite == "null":
        return pl.when(value.is_finite()).then(value)
    return value


def _read_parquet(source: Path, declared: TableSchema) -> tuple[pl.LazyFrame, int, int]:
    with parquet_faults(source):
        raw = pl.scan_parquet(source, glob=False)
        found = raw.collect_schema()
        _check_columns(declared, list(found), source)
        bad: dict[str, pl.Expr] = {}
        for name, dtype in declared.columns.items():
            if not widens(found[name], dtype):
                raise _drift(raw, source, name, dtype, str(found[name]), bad=pl.col(name).is_not_null())
            if found[name].is_float() and declared.non_finite == "refuse":
                bad[name] = ~pl.col(name).is_finite()
            elif (lost := changed_values(pl.col(name), found[name], dtype)) is not None:
                bad[name] = lost
        checks = {f"bad {name}": _first(expression) for name, expression in bad.items()}
        values = {name: _finite(pl.col(name), dtype, declared) for name, dtype in declared.columns.items()}
        values = {name: value if found[name].is_float() else pl.col(name) for name, value in values.items()}
        nulls = {f"null {name}": _first(values[name].is_null()) for name in declared.required}
        counts = (
            raw.with_row_index(ROW).select(pl.len(), **checks, **nulls).collect(engine="streaming").row(0, named=True)
        )
        rows = int(counts["len"])
        for name, expression in bad.items():
            if counts[f"bad {name}"] is not None:
                raise _drift(raw, source, name, declared.columns[name], str(found[name]), bad=expression)
        _refuse_nulls({name: counts[f"null {name}"] for name in declared.required}, source)
        if rows:
            raw.select(pl.col(list(declared.columns)).count()).collect(engine="streaming")  # reads every page
    return raw.select(values[name].cast(polars_dtype(dtype)) for name, dtype in declared.columns.items()), rows, 0


def _first(bad: pl.Expr) -> pl.Expr:
    """The number of the first row that satisfies a condition."""
    return pl.when(bad).then(pl.col(ROW)).min()


def _check_columns(declared: TableSchema, found: list[str], source: Path) -> None:
    for name in declared.columns:
        if name not in found:
            raise separator_fault(found, source) or missing_column(name, found, what=source.name)
        if found.count(name) > 1:
            what = f"{source.name} has a duplicate column '{name}'"
            raise DataError(what, where=str(source), fix="rename one of them")
    left_out = [name for name in found if name not in declared.columns]
    if left_out:
        log.info("columns.left_out", file=source.name, columns=left_out)


def separator_fault(found: list[str], source: Path) -> DataError | None:
    """Returns the error for a file whose fields are not separated by commas; None if they are.

    Args:
        found: the names in the header, split at commas.
        source: the file, for the error.
    """
    for mark, name in ((";", "';'"), ("\t", "tabs"), ("|", "'|'")):
        if len(found) == 1 and mark in found[0]:
            return DataError(
                f"{source.name} seems to be separated by {name}: its header is {shortened(found[0])}",
                where=f"{source}:1",
                fix="export it separated by commas",
            )
    return None


def _check_rows(
    raw: pl.LazyFrame, declared: TableSchema, source: Path, *, lists: Set[str] = frozenset(), **more: pl.Expr
) -> dict[str, int]:
    """Counts `rows` and `more`; refuses the first value that is not of its declared type."""
    checks: dict[str, pl.Expr] = {}
    for name, dtype in declared.columns.items():
        value = _value(name, declared, lists)
        if name not in lists and dtype not in ("String", "List(String)"):
            read = parsed(pl.col(name), dtype)
            checks[f"drift {name}"] = _first(_unreadable(name, read))
            if dtype.startswith("Float"):
                checks[f"odd {name}"] = _first(suspicious(read, dtype))
        if name in declared.required:
            checks[f"null {name}"] = _first(value.is_null())
    counts = raw.with_row_index(ROW).select(pl.len().alias("rows"), **checks, **more)
    found: dict[str, int] = counts.collect(engine="streaming").row(0, named=True)
    bad = {
        name: _unreadable(name, parsed(pl.col(name), dtype))
        for name, dtype in declared.columns.items()
        if found.get(f"drift {name}") is not None
    }
    for name, dtype in declared.columns.items():
        if found.get(f"odd {name}") is not None:
            wrong = inexact(pl.col(name), dtype)
            if declared.non_finite == "refuse":
                wrong |= not_finite(pl.col(name)).fill_null(False)
            bad[name] = bad.get(name, pl.lit(False)) | wrong
    if bad:
        first = raw.with_row_index(ROW).select(_first(wrong).alias(name) for name, wrong in bad.items())
        rows = first.collect(engine="streaming").row(0, named=True)
        drifts = [name for name in bad if rows[name] is not None]
        if drifts:
            name = min(drifts, key=lambda column: int(rows[column]))
            raise _drift(raw, source, name, declared.columns[name], "String", bad=bad[name])
    _refuse_nulls({name: found[f"null {name}"] for name in declared.required}, source)
    return found


def _unreadable(name: str, value: pl.Expr) -> pl.Expr:
    return value.is_null() & (pl.col(name).str.strip_chars() != "")


def _drift(raw: pl.LazyFrame, source: Path, name: str, dtype: str, found: str, *, bad: pl.Expr) -> SchemaDrift:
    first = raw.select(name).with_row_index(ROW).filter(bad).head(1).collect(engine="streaming")
    value, row = (first[name][0], int(first[ROW][0]) + 1) if len(first) else (None, 1)
    what = f"column '{name}': expected {dtype}, found {found} {shortened(value)} in row {row}"
    return SchemaDrift(what, where=source.name, fix=_drift_hint(dtype, value))


def _drift_hint(dtype: str, value: object) -> str:
    text = str(value).strip()
    if dtype.startswith("Float") and text.lstrip("+-").lower() in ("nan", "inf", "infinity"):
        return "correct the file, or declare `non_finite: null` beside the columns: NaN and infinity are read as null"
    if dtype.startswith("Float") and text.lstrip("+-").replace(".", "", 1).isdigit():
        return f"{dtype} would change it: declare ids as Int64 or String"
    if dtype == "Datetime" and _has_offset(text):
        return "the times have an offset: declare the column as DatetimeUTC"
    if dtype == "DatetimeUTC":
        return "write times with an offset, as 2026-09-01T12:30:00+03:00, or declare the column as Datetime"
    if dtype in ("Date", "Datetime"):
        return "write times as 2026-09-01T12:30:00 and days as 2026-09-01, or declare the column as String"
    return "correct the file, or the declared type"


def _has_offset(value: str) -> bool:
    return pl.select(parsed(pl.lit(value), "DatetimeUTC")).item() is not None


def _refuse_nulls(first_rows: dict[str, int | None], source: Path) -> None:
    for name, row in first_rows.items():
        if row is not None:
            raise SchemaDrift(
                f"column '{name}': required, found null in row {row + 1}",
                where=source.name,
                fix="fill the value, or remove the column from `required`",
            )

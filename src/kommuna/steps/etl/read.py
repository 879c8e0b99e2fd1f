"""Reading of CSV, NDJSON and Parquet files against a declared schema."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path
from typing import Literal, NamedTuple

import polars as pl
import structlog

from kommuna.errors import DataError, SchemaDrift
from kommuna.spec.table import TableSchema
from kommuna.steps.etl.columns import missing, shortened
from kommuna.steps.etl.dtypes import parsed, polars_dtype, widens
from kommuna.steps.etl.faults import csv_fault, csv_header, json_columns, json_fault, refuse_short_rows
from kommuna.steps.frames import takes_frames

log = structlog.get_logger()

Format = Literal["auto", "csv", "ndjson", "parquet"]
_SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_ROW = "#row"


class Read(NamedTuple):
    """The declared columns of a file, in the declared order."""

    table: pl.LazyFrame
    metrics: dict[str, float]


@takes_frames
def read_table(source: Path, *, table_schema: TableSchema, format: Format = "auto") -> Read:
    """Scans a file lazily; one streaming pass makes sure first that every value is of its declared type.

    Columns that are not declared are left out. In CSV, an unquoted empty field is null, blank lines are skipped,
    and `List(String)` is written `a|b|c`.

    Args:
        source: a local file.
        table_schema: the columns and their types.
        format: `auto` goes by the file's name, then by its first bytes.
    Returns:
        The table, and the metrics `rows` and `bytes` (of the file).
    Raises:
        MissingColumn: a declared column is not in the file.
        SchemaDrift: a value is not of its column's type, or a required one is null; names the first such row (1 is the
            first row of data).
        DataError: the file is absent, empty, not UTF-8, cut off, or has rows of another width.
    """
    source = Path(source)
    if not source.is_file():
        raise DataError(f"no file {source.name}", where=str(source), mend="check the path")
    size = source.stat().st_size
    if size == 0:
        raise DataError(f"{source.name} is empty: 0 bytes", where=str(source), mend="export the file again")
    kind = _format(source) if format == "auto" else format
    read = {"csv": _read_csv, "ndjson": _read_ndjson, "parquet": _read_parquet}[kind]
    table, rows = read(source, table_schema)
    if rows == 0:
        raise DataError(f"{source.name} has no rows", where=str(source), mend="export the file again")
    log.info("table.read", file=source.name, format=kind, rows=rows, bytes=size)
    return Read(table, {"rows": float(rows), "bytes": float(size)})


def _format(source: Path) -> Format:
    known = _SUFFIXES.get(source.suffix.lower())
    if known:
        return known
    with source.open("rb") as file:
        start = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"PAR1"):
        return "parquet"
    return "ndjson" if start.startswith(b"{") else "csv"


def _read_csv(source: Path, declared: TableSchema) -> tuple[pl.LazyFrame, int]:
    header = csv_header(source)
    _check_columns(declared, header, source)
    try:
        raw = pl.scan_csv(source, infer_schema=False, glob=False)
        blank = pl.all_horizontal(pl.col(name).is_null() for name in raw.collect_schema())
        rows, blanks, gaps = _check_rows(raw, declared, source, more=(blank.sum(), pl.col(header[-1]).is_null().sum()))
    except pl.exceptions.PolarsError as error:
        raise csv_fault(source, len(header), error) from None
    if gaps > blanks:  # Polars fills up short rows with nulls
        refuse_short_rows(source, len(header))
    if blanks and len(header) > 1:
        raw = raw.filter(~blank)
        rows -= blanks
    return raw.select(parsed(pl.col(name), dtype).alias(name) for name, dtype in declared.columns.items()), rows


def _read_ndjson(source: Path, declared: TableSchema) -> tuple[pl.LazyFrame, int]:
    found = json_columns(source)
    lists = {name for name, dtype in declared.columns.items() if dtype == "List(String)"}
    texts = {name: polars_dtype("List(String)" if name in lists else "String") for name in declared.columns}
    try:
        raw = pl.scan_ndjson(source, schema=texts)
        absent = [name for name in declared.columns if name not in found]  # from the first lines, that is
        if absent:
            counts = raw.select(pl.col(absent).count()).collect(engine="streaming").row(0, named=True)
            found += [name for name in absent if counts[name]]
        _check_columns(declared, found, source)
        rows, _, _ = _check_rows(raw, declared, source, lists=lists)
    except pl.exceptions.PolarsError as error:
        raise json_fault(source, lists, error) from None
    return raw.select(_value(name, dtype, lists).alias(name) for name, dtype in declared.columns.items()), rows


def _value(name: str, dtype: str, lists: Set[str]) -> pl.Expr:
    return pl.col(name) if name in lists else parsed(pl.col(name), dtype)


def _read_parquet(source: Path, declared: TableSchema) -> tuple[pl.LazyFrame, int]:
    try:
        raw = pl.scan_parquet(source, glob=False)
        found = raw.collect_schema()
        _check_columns(declared, list(found), source)
        for name, dtype in declared.columns.items():
            if not widens(found[name], dtype):
                raise _drift(raw, source, name, dtype, str(found[name]), bad=pl.col(name).is_not_null())
        nulls = {name: pl.when(pl.col(name).is_null()).then(pl.col(_ROW)).min() for name in declared.required}
        counts = raw.with_row_index(_ROW).select(pl.len(), **nulls).collect(engine="streaming").row(0, named=True)
        rows = int(counts.pop("len"))
        _refuse_nulls(counts, source)
        if rows:
            raw.select(pl.col(list(declared.columns)).count()).collect(engine="streaming")  # every page can be read
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"{source.name} is no readable Parquet file: {str(error).splitlines()[0]}",
            where=str(source),
            mend="the file is cut off or damaged: export or copy it again",
        ) from None
    return raw.select(pl.col(name).cast(polars_dtype(dtype)) for name, dtype in declared.columns.items()), rows


def _check_columns(declared: TableSchema, found: list[str], source: Path) -> None:
    for name in declared.columns:
        if name not in found:
            raise _separated(found, source) or missing(name, found, where=source.name)
        if found.count(name) > 1:
            what = f"column '{name}' stands twice in {source.name}"
            raise DataError(what, where=str(source), mend="rename one of them")
    left_out = [name for name in found if name not in declared.columns]
    if left_out:
        log.info("columns.left_out", file=source.name, columns=left_out)


def _separated(found: list[str], source: Path) -> DataError | None:
    """The error for a file whose fields are separated by something else than a comma."""
    for mark, name in ((";", "';'"), ("\t", "tabs"), ("|", "'|'")):
        if len(found) == 1 and mark in found[0]:
            return DataError(
                f"{source.name} seems to be separated by {name}: its header is {shortened(found[0])}",
                where=f"{source}:1",
                mend="export it separated by commas",
            )
    return None


def _check_rows(
    raw: pl.LazyFrame,
    declared: TableSchema,
    source: Path,
    *,
    more: tuple[pl.Expr, ...] = (),
    lists: Set[str] = frozenset(),
) -> tuple[int, int, int]:
    """Rows, and two further counts; refuses the first value that is not of its type."""
    rows = pl.col(_ROW)
    checks = []
    for name, dtype in declared.columns.items():
        value = _value(name, dtype, lists)
        if name not in lists and dtype not in ("String", "List(String)"):
            checks.append(pl.when(_unreadable(name, value)).then(rows).min().alias(f"drift {name}"))
        if name in declared.required:
            checks.append(pl.when(value.is_null()).then(rows).min().alias(f"null {name}"))
    extra = [count.alias(f"more {i}") for i, count in enumerate(more)]
    counts = raw.with_row_index(_ROW).select(*checks, *extra, pl.len().alias("rows"))
    found = counts.collect(engine="streaming").row(0, named=True)
    drifts = {name: found[f"drift {name}"] for name in declared.columns if found.get(f"drift {name}") is not None}
    if drifts:
        name = min(drifts, key=lambda column: int(drifts[column]))
        dtype = declared.columns[name]
        raise _drift(raw, source, name, dtype, "String", bad=_unreadable(name, parsed(pl.col(name), dtype)))
    _refuse_nulls({name: found[f"null {name}"] for name in declared.required}, source)
    return int(found["rows"]), int(found.get("more 0") or 0), int(found.get("more 1") or 0)


def _unreadable(name: str, value: pl.Expr) -> pl.Expr:
    return value.is_null() & (pl.col(name).str.strip_chars() != "")


def _drift(raw: pl.LazyFrame, source: Path, name: str, dtype: str, found: str, *, bad: pl.Expr) -> SchemaDrift:
    first = raw.select(name).with_row_index(_ROW).filter(bad).head(1).collect(engine="streaming")
    value, row = (first[name][0], int(first[_ROW][0]) + 1) if len(first) else (None, 1)
    hint = "correct the file, or the declared type"
    if dtype == "Datetime" and isinstance(value, str) and _has_offset(value):
        hint = "the times have an offset: declare the column as DatetimeUTC"
    elif dtype in ("Date", "Datetime"):
        hint = "write times as 2026-09-01T12:30:00 and days as 2026-09-01, or declare the column as String"
    what = f"column '{name}': expected {dtype}, found {found} {shortened(value)} in row {row}"
    return SchemaDrift(what, where=source.name, mend=hint)


def _has_offset(value: str) -> bool:
    return pl.select(parsed(pl.lit(value), "DatetimeUTC")).item() is not None


def _refuse_nulls(first_rows: dict[str, int | None], source: Path) -> None:
    for name, row in first_rows.items():
        if row is not None:
            raise SchemaDrift(
                f"column '{name}': required, found null in row {row + 1}",
                where=source.name,
                mend="fill the value, or take the column out of `required`",
            )

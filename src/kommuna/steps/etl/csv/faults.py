"""Finds what is wrong with a CSV file that cannot be read: the encoding, a row's width, a quote."""

from __future__ import annotations

import codecs
import csv
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kommuna.errors import DataError
from kommuna.steps.columns import shortened
from kommuna.steps.etl.csv.survey import survey_csv

_BLOCK = 1 << 20
_CYRILLIC = "Russian text is often Windows-1251: iconv -f WINDOWS-1251 -t UTF-8"


def csv_header(source: Path) -> list[str]:
    """Returns the column names of a CSV file.

    Raises:
        DataError: the header is not UTF-8 or empty, or there are no rows below it.
    """
    with source.open("rb") as file:
        start = file.read(_BLOCK)
    if b"\r" in start and b"\n" not in start:
        fix = "convert the line breaks: tr '\\r' '\\n'"
        raise DataError(f"{source.name}: its lines end in a carriage return alone", where=str(source), fix=fix)
    try:
        with _rows(source) as rows:
            header = next(rows, [])
            below = next((row for row in rows if row), None)
    except UnicodeDecodeError:
        raise encoding_fault(source) or DataError(f"{source.name} is not UTF-8", where=str(source)) from None
    except csv.Error as error:
        survey_csv(source)  # names the row
        raise DataError(f"{source.name}: the first rows are not valid CSV: {error}", where=f"{source}:1") from None
    if not any(name.strip() for name in header):
        raise DataError(f"{source.name} has no header: its first line is empty", where=f"{source}:1", fix=_NAMES)
    if below is None:
        raise DataError(
            f"{source.name} has a header and no rows: {', '.join(header[:10])}",
            where=str(source),
            fix="export it again",
        )
    return header


_NAMES = "put the column names into the first line"


def csv_fault(source: Path, width: int, error: Exception) -> DataError:
    """Returns the error for a CSV file that Polars could not read; names the row.

    Args:
        source: the file.
        width: the number of columns in its header.
        error: what Polars raised.
    """
    if fault := encoding_fault(source) or _ragged(source, width):
        return fault
    return DataError(f"{source.name} cannot be read as CSV: {first_line(error)}", where=str(source), fix=_QUOTES)


_QUOTES = "export it as CSV with commas, and quotes around texts (a quote inside is doubled)"


@contextmanager
def parquet_faults(source: Path) -> Iterator[None]:
    """Raises DataError for a Parquet file that is damaged."""
    import polars as pl

    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"{source.name} is not a readable Parquet file: {first_line(error)}",
            where=str(source),
            fix="the file is truncated or damaged: export or copy it again",
        ) from None


def check_rows_of_width(source: Path, width: int) -> int:
    """Checks that every row has as many fields as the header; returns the number of rows, including blank lines.

    Args:
        source: the file.
        width: the number of columns in its header.

    Raises:
        DataError: a row has another width, or a quote is misplaced; names the row.
    """
    survey = survey_csv(source, blank_lines=False)
    if width > 1 and survey.commas != (width - 1) * survey.lines:
        survey = survey_csv(source)
    if width > 1 and survey.commas != (width - 1) * (survey.lines - survey.blank):
        raise _ragged(source, width) or DataError(
            f"{source.name}: its rows do not have the header's {width} fields each", where=str(source), fix=_QUOTES
        )
    return survey.lines - 1


def _ragged(source: Path, width: int) -> DataError | None:
    """Returns the error for the first row of another width or with an unclosed quote; None without one."""
    number = 0
    with _rows(source) as rows:
        try:
            next(rows, None)
            for number, row in enumerate(rows, start=1):
                if row and len(row) != width:
                    return DataError(
                        f"{source.name}: row {number} has {len(row)} fields, the header has {width}",
                        where=f"{source}, row {number}: {shortened(','.join(row))}",
                        fix="put quotes around texts with commas or line breaks; a truncated file ends in a short row",
                    )
        except csv.Error as error:
            what = f"{source.name}: row {number + 1} has a misplaced quote: {error}"
            return DataError(what, where=str(source), fix=_QUOTES)
    return None


def encoding_fault(source: Path) -> DataError | None:
    """Returns the error for the first byte that is not UTF-8; None if all are."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset, line = 0, 1
    with source.open("rb") as file:
        while block := file.read(_BLOCK):
            held = len(decoder.getstate()[0])
            try:
                decoder.decode(block, final=len(block) < _BLOCK)
            except UnicodeDecodeError as error:
                bad = offset - held + error.start
                return not_utf8(source, line + block[: max(error.start - held, 0)].count(b"\n"), bad)
            offset += len(block)
            line += block.count(b"\n")
    return None


def not_utf8(source: Path, line: int, offset: int, *, fix: str = _CYRILLIC) -> DataError:
    """Returns the error for a text file in another encoding.

    Args:
        source: the file.
        line: the line with the first byte that is not UTF-8, from 1.
        offset: that byte's offset in the file, from 0.
        fix: how to convert the file.
    """
    return DataError(
        f"{source.name} is not UTF-8: line {line}, byte {offset}",
        where=f"{source}:{line}",
        fix=f"save it as UTF-8; {fix}",
    )


@contextmanager
def _rows(source: Path) -> Iterator[Iterator[list[str]]]:
    before = csv.field_size_limit(sys.maxsize)  # a message may be longer than the module's 128 KiB
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            yield csv.reader(file, strict=True)
    finally:
        csv.field_size_limit(before)


def first_line(error: Exception) -> str:
    """Returns the first line of an error, without the plan that Polars appends."""
    return str(error).strip().split("\n")[0]

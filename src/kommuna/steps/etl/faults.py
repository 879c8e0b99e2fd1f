"""Says what is wrong with a text file that cannot be read: the encoding, a row's width, a quote, a JSON line."""

from __future__ import annotations

import codecs
import csv
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kommuna.errors import DataError, SchemaDrift
from kommuna.steps.etl.columns import shortened

_BLOCK = 1 << 20
_SAMPLE = 1_000  # lines of NDJSON that are looked at for the names of the columns


def csv_header(source: Path) -> list[str]:
    """The column names of a CSV file.

    Raises:
        DataError: the header is not UTF-8, or there is nothing below it.
    """
    with source.open("rb") as file:
        start = file.read(4)
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in start:
        raise _not_utf8(source, 1, 0, "UTF-16")
    try:
        with _rows(source) as rows:
            header = next(rows, [])
            below = next((row for row in rows if row), None)
    except UnicodeDecodeError:
        raise encoding_fault(source) or DataError(f"{source.name} is not UTF-8", where=str(source)) from None
    except csv.Error as error:
        raise DataError(f"{source.name}: the first rows are not valid CSV: {error}", where=f"{source}:1") from None
    if not any(name.strip() for name in header):
        raise DataError(f"{source.name} has no header: its first line is empty", where=f"{source}:1", mend=_NAMES)
    if below is None:
        raise DataError(
            f"{source.name} has a header and no rows: {', '.join(header[:10])}",
            where=str(source),
            mend="export it again",
        )
    return header


_NAMES = "put the column names into the first line"


def csv_fault(source: Path, width: int, error: Exception) -> DataError:
    """Why Polars could not read a CSV file, with the row."""
    if fault := encoding_fault(source) or _ragged(source, width):
        return fault
    return DataError(f"{source.name} cannot be read as CSV: {_first_line(error)}", where=str(source), mend=_QUOTES)


_QUOTES = "export it as CSV with commas, and quotes around texts (a quote inside is doubled)"


def refuse_short_rows(source: Path, width: int) -> None:
    """Raises DataError for the first row that has less fields than the header."""
    if fault := _ragged(source, width):
        raise fault


def _ragged(source: Path, width: int) -> DataError | None:
    """The first row whose number of fields is not the header's, or whose quotes do not close."""
    number = 0
    with _rows(source) as rows:
        try:
            next(rows, None)
            for number, row in enumerate(rows, start=1):
                if row and len(row) != width:
                    return DataError(
                        f"{source.name}: row {number} has {len(row)} fields, the header has {width}",
                        where=f"{source}, row {number}: {shortened(','.join(row))}",
                        mend="put quotes around texts with commas or line breaks; a file cut off ends in a short row",
                    )
        except csv.Error as error:
            what = f"{source.name}: row {number + 1} has a quote out of place: {error}"
            return DataError(what, where=str(source), mend=_QUOTES)
    return None


def json_columns(source: Path) -> list[str]:
    """The column names in the first lines of an NDJSON file, in the order in which they come."""
    names: dict[str, None] = {}
    try:
        with source.open(encoding="utf-8-sig") as file:
            for number, line in zip(range(_SAMPLE), file, strict=False):
                if line.strip():
                    names |= dict.fromkeys(_object(source, number + 1, line))
    except UnicodeDecodeError:
        raise encoding_fault(source) or DataError(f"{source.name} is not UTF-8", where=str(source)) from None
    if not names:
        raise DataError(f"{source.name} has no rows", where=str(source), mend="export it again")
    return list(names)


def json_fault(source: Path, lists: set[str], error: Exception) -> DataError:
    """Why Polars could not read an NDJSON file, with the line."""
    if fault := encoding_fault(source):
        return fault
    with source.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = _object(source, number, line)
            except DataError as malformed:
                return malformed
            for name in lists:
                if not isinstance(row.get(name), list | None):
                    return SchemaDrift(
                        f"column '{name}': expected List(String), found {shortened(row[name])} in row {number}",
                        where=source.name,
                        mend="write it as a JSON list",
                    )
    return DataError(f"{source.name} cannot be read as NDJSON: {_first_line(error)}", where=str(source))


def _object(source: Path, number: int, line: str) -> dict[str, Any]:
    where = f"{source}:{number}"
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(
            f"{source.name}: line {number} is not valid JSON: {error}",
            where=f"{where}: {shortened(line.strip())}",
            mend="one JSON object a line; a file cut off ends in a broken line",
        ) from None
    if not isinstance(row, dict):
        raise DataError(f"{source.name}: line {number} is no JSON object: {shortened(line.strip())}", where=where)
    return row


def encoding_fault(source: Path) -> DataError | None:
    """The error for the first byte that is not UTF-8, or None."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset, line = 0, 1
    with source.open("rb") as file:
        while block := file.read(_BLOCK):
            held = len(decoder.getstate()[0])
            try:
                decoder.decode(block, final=len(block) < _BLOCK)
            except UnicodeDecodeError as error:
                bad = offset - held + error.start
                return _not_utf8(source, line + block[: max(error.start - held, 0)].count(b"\n"), bad, "")
            offset += len(block)
            line += block.count(b"\n")
    return None


def _not_utf8(source: Path, line: int, offset: int, guess: str) -> DataError:
    if guess:
        mend = f"it looks like {guess}: save it as UTF-8, for example by iconv -f {guess} -t UTF-8"
    else:
        mend = "save it as UTF-8; Russian text is often Windows-1251: iconv -f WINDOWS-1251 -t UTF-8"
    return DataError(f"{source.name} is not UTF-8: line {line}, byte {offset}", where=f"{source}:{line}", mend=mend)


@contextmanager
def _rows(source: Path) -> Iterator[Iterator[list[str]]]:
    before = csv.field_size_limit(sys.maxsize)  # a message may be longer than the module's 128 KiB
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            yield csv.reader(file, strict=True)
    finally:
        csv.field_size_limit(before)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]

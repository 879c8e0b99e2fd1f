"""Detects the format of a table's file by its name and first bytes, and names a format that cannot be read."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

from kommuna.errors import DataError
from kommuna.steps.etl.csv.faults import not_utf8

Format = Literal["csv", "ndjson", "parquet"]

_FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".parquet": "parquet",
    ".pq": "parquet",
}
ENDINGS = tuple(_FORMATS)
_PARQUET = b"PAR1"
_UNPACK = "unpack it first, for example by"
_EXPORT = "export it as CSV (UTF-8), NDJSON or Parquet"
_FOREIGN: tuple[tuple[bytes, str, str], ...] = (  # first bytes, format, fix
    (b"\x1f\x8b", "a gzip archive", f"{_UNPACK} gunzip"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", f"{_UNPACK} zstd -d"),
    (b"BZh", "a bzip2 archive", f"{_UNPACK} bunzip2"),
    (b"\xfd7zXZ\x00", "an xz archive", f"{_UNPACK} unxz"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", f"{_UNPACK} 7z x"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file", _EXPORT),
    (b"%PDF-", "a PDF", _EXPORT),
    (b"ARROW1", "an Arrow (Feather) file", _EXPORT),
    (b"SQLite format 3\x00", "a SQLite database", _EXPORT),
    (b"ORC", "an ORC file", _EXPORT),
)
_TEXT_START = b"\xef\xbb\xbf \t\r\n"


def check_file(source: Path) -> None:
    """Checks that there is a file with something in it.

    Raises:
        DataError: the path does not exist or is a folder, or the file is empty.
    """
    if source.is_dir():
        raise DataError(f"{source.name or source} is a folder, not a file", where=str(source), fix="name a file in it")
    if not source.is_file():
        raise DataError(f"no file {source.name}", where=str(source), fix="check the path")
    if not source.stat().st_size:
        raise DataError(f"{source.name} is empty: 0 bytes", where=str(source), fix="export the file again")


def format_of(source: Path) -> Format:
    """Returns the format of a file: by the ending of its name, otherwise by its first bytes."""
    known = _FORMATS.get(source.suffix.lower())
    if known:
        return known
    start = _start(source)
    if start.startswith(_PARQUET):
        return "parquet"
    return "ndjson" if start.lstrip(_TEXT_START).startswith((b"{", b"[{")) or source.suffix == ".json" else "csv"


def check_format(source: Path, expected: Format) -> None:
    """Checks by its first bytes that a file has the format that it is read as.

    Raises:
        DataError: it has another format; names it, and how to convert the file.
    """
    start = _start(source)
    if expected == "parquet":
        if start.startswith(_PARQUET):
            return
    elif start.startswith(_PARQUET) and b"\0" in start:
        fix = "name it .parquet, or give format=parquet"
        raise DataError(f"{source.name} is a Parquet file, read as {expected}", where=str(source), fix=fix)
    found = _foreign(source, start)
    if found:
        what, fix = found
        raise DataError(f"{source.name} is {what}", where=str(source), fix=fix)
    text = start.lstrip(_TEXT_START)
    if expected != "parquet" and (encoding := _utf_16(start)):
        raise not_utf8(source, 1, 0, fix=f"it looks like {encoding}: iconv -f {encoding} -t UTF-8")
    if expected == "csv" and text.startswith(b'{"'):
        fix = "name it .ndjson, or give format=ndjson"
        raise DataError(f"{source.name} holds JSON, read as CSV", where=str(source), fix=fix)
    if (expected == "ndjson" and text.startswith(b"[")) or text.startswith((b"[{", b"[\n", b"[\r\n")):
        raise DataError(
            f"{source.name} is one JSON array: NDJSON holds one object per line",
            where=str(source),
            fix="write each object on its own line, for example by jq -c '.[]'",
        )
    if expected != "parquet" and text[:15].lower().startswith((b"<!doctype html", b"<html")):
        raise DataError(f"{source.name} is an HTML page", where=str(source), fix="often an error page: download again")


def _foreign(source: Path, start: bytes) -> tuple[str, str] | None:
    for magic, what, fix in _FOREIGN:
        # A text may begin with these letters: "ORC,price" may be a header.
        if start.startswith(magic) and (not magic.isalpha() or not _is_text(start)):
            return what, fix
    if start.startswith(b"PK\x03\x04"):
        return ("an Excel workbook", _EXPORT) if _holds_sheets(source) else ("a ZIP archive", f"{_UNPACK} unzip")
    return None


def _utf_16(start: bytes) -> str | None:
    """Recognises UTF-16 by its byte order mark, or by the high bytes of ASCII and Cyrillic letters."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    for name, high in (("UTF-16LE", start[1::2]), ("UTF-16BE", start[0::2])):
        if b"\0" in high and sum(high.count(byte) for byte in (0, 4)) >= 0.9 * len(high):
            return name
    return None


def _is_text(start: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\r\n" for byte in start)


def _holds_sheets(source: Path) -> bool:
    try:
        with zipfile.ZipFile(source) as archive:
            return any(name.startswith("xl/") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _start(source: Path) -> bytes:
    with source.open("rb") as file:
        return file.read(256)

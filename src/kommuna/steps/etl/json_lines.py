"""Checks NDJSON line by line: finds the names of the columns, counts rows and names faulty lines."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl

from kommuna.errors import DataError, SchemaDrift
from kommuna.steps.columns import shortened
from kommuna.steps.etl.csv.faults import encoding_fault, first_line

_SAMPLE = 1_000  # lines in which names of columns are looked up
_BLOCK = 1 << 20
_BOM = b"\xef\xbb\xbf"
_ONE_PER_LINE = "write one JSON object per line; a truncated file ends in a broken line"
# Half of a surrogate pair, which is written as two \\u escapes: Polars reads it as the character 0.
_LONE_SURROGATE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)
# A whole number of 16 or more digits, written with a point or an exponent: Polars reads it as Float64.
# Possessive quantifiers: a text of a million digits is scanned once.
_LONG_FLOAT = re.compile(
    rb"(?<![0-9.])(?:[0-9]{16,}+(?:[.]0*+(?![0-9])|(?:[.]0*+)?[eE])|[0-9][0-9.]{15,}+[eE][+]?[0-9])"
)
_ESCAPED_KEY = r'\\.(?:[^"\\]|\\.)*"\s*:'


def json_columns(source: Path) -> list[str]:
    """Returns the column names in the first lines of an NDJSON file, in order of appearance.

    Raises:
        DataError: a line is not UTF-8 or not a JSON object, or there are no lines.
    """
    names: dict[str, None] = {}
    with source.open("rb") as file:
        if file.read(len(_BOM)) == _BOM:
            raise DataError(
                f"{source.name} begins with a byte order mark, which JSON does not allow",
                where=f"{source}:1",
                fix="save it as UTF-8 without the mark: tail -c +4 FILE",
            )
        file.seek(0)
        for number, line in zip(range(_SAMPLE), file, strict=False):
            if line.strip():
                names |= dict.fromkeys(_object(source, number + 1, line))
    if not names:
        raise DataError(f"{source.name} has no rows", where=str(source), fix="export it again")
    return list(names)


def count_json_rows(source: Path, names: Iterable[str]) -> int:
    """Counts the lines of an NDJSON file that are not blank, and checks what Polars would misread.

    Args:
        source: the file.
        names: names of the columns that are read.

    Raises:
        DataError: a line has half of a surrogate pair, a duplicate key, or a whole number with more digits than Float64
            keeps; names the line.
    """
    rows = number = 0
    names = set(names)
    for lines in _blocks(source):
        blank = sum(map(bytes.isspace, lines))
        block = b"".join(lines)
        for at in _matching(_LONE_SURROGATE, block, lines):
            _refuse_lone_surrogate(source, number + at + 1, lines[at])
        for at in _matching(_LONG_FLOAT, block, lines):
            _refuse_lost_digits(source, number + at + 1, lines[at], names)
        for at in _maybe_duplicate_keys(lines, names):
            _refuse_duplicate_key(source, number + at + 1, lines[at], names)
        rows, number = rows + len(lines) - blank, number + len(lines)
    return rows


def json_fault(source: Path, lists: Set[str], schema: dict[str, pl.DataType], error: Exception) -> DataError:
    """Returns the error for an NDJSON file that Polars could not read; names the line or the row.

    Args:
        source: the file.
        lists: names of the columns that hold lists.
        schema: the types of the columns that are read.
        error: what Polars raised.
    """
    if fault := encoding_fault(source):
        return fault
    rows = number = 0
    for lines in _blocks(source):
        if _readable(b"".join(lines), schema) is None:
            rows, number = rows + sum(not _is_blank(line) for line in lines), number + len(lines)
            continue
        for line in lines:
            number += 1
            if _is_blank(line):
                continue
            rows += 1
            if (reason := _readable(line, schema)) is not None:
                return _line_fault(source, lists, line, number, rows, reason)
    return DataError(f"{source.name} cannot be read as NDJSON: {first_line(error)}", where=str(source))


def _matching(pattern: re.Pattern[bytes], block: bytes, lines: list[bytes]) -> list[int]:
    """Returns the lines of a block that match a pattern; one search over the block covers the usual case of none."""
    return [at for at, line in enumerate(lines) if pattern.search(line)] if pattern.search(block) else []


def _maybe_duplicate_keys(lines: list[bytes], names: Set[str]) -> list[int]:
    """Returns the lines that may have a duplicate key, of which Polars takes the first and other readers the last."""
    texts = pl.Series(lines, dtype=pl.Binary).cast(pl.String, strict=False)
    often = texts.str.contains(_ESCAPED_KEY)
    for name in names:
        often |= texts.str.count_matches(json.dumps(name, ensure_ascii=False), literal=True) > 1
    return often.fill_null(False).arg_true().to_list()


def _refuse_duplicate_key(source: Path, number: int, line: bytes, names: Set[str]) -> None:
    pairs = json.loads(line, object_pairs_hook=list) if _is_object(line) else []
    often = Counter(name for name, _ in pairs)
    for name in sorted(names):
        if often[name] > 1:
            raise DataError(
                f"{source.name}: line {number} has the key '{name}' twice",
                where=f"{source}:{number}: {shortened(_text(line))}",
                fix="keep one of them: readers disagree on which one counts",
            )


def _refuse_lost_digits(source: Path, number: int, line: bytes, names: Set[str]) -> None:
    """Refuses whole numbers that Float64 would change: 9007199254740993.0 would be read as …992."""
    values = json.loads(line, parse_float=_Float) if _is_object(line) else {}
    for name in sorted(names & set(values)):
        for value in _floats(values[name]):
            if value.loses_digits():
                raise DataError(
                    f"column '{name}': {value} in line {number} would be read as {float(value):.0f}",
                    where=f"{source}:{number}: {shortened(_text(line))}",
                    fix="write whole numbers without a point or exponent, or as texts",
                )


class _Float(str):
    """A JSON number with a point or an exponent, as it is written."""

    def loses_digits(self) -> bool:
        """Whether it is a whole number that Float64 would change."""
        written, read = Decimal(self), float(self)
        whole = math.isfinite(read) and written == written.to_integral_value()
        return whole and written != Decimal(repr(read))


def _floats(value: Any) -> Iterator[_Float]:
    if isinstance(value, _Float):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _floats(item)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False  # Polars reports it


def _line_fault(source: Path, lists: Set[str], line: bytes, number: int, row: int, reason: str) -> DataError:
    try:
        values = _object(source, number, line)
    except DataError as malformed:
        return malformed
    for name in sorted(lists & set(values)):
        if not isinstance(values[name], list | None):
            return SchemaDrift(
                f"column '{name}': expected List(String), found {shortened(values[name])} in row {row}",
                where=f"{source}:{number}",
                fix="write it as a JSON list",
            )
    return DataError(
        f"{source.name}: line {number} cannot be read: {reason}",
        where=f"{source}:{number}: {shortened(_text(line))}",
        fix="numbers beyond 1.8e308 cannot be read: write null, or a text",
    )


def _readable(lines: bytes, schema: dict[str, pl.DataType]) -> str | None:
    """Returns why lines cannot be read; None if they can."""
    if _is_blank(lines):
        return None
    try:
        pl.scan_ndjson(lines, schema=schema).collect(engine="streaming")
    except pl.exceptions.PolarsError as error:
        return first_line(error)
    return None


def _is_blank(line: bytes) -> bool:
    return not line.strip(b" \t\r\n")


def _blocks(source: Path) -> Iterator[list[bytes]]:
    with source.open("rb") as file:
        while lines := file.readlines(_BLOCK):
            yield lines


def _object(source: Path, number: int, line: bytes) -> dict[str, Any]:
    where = f"{source}:{number}"
    try:
        row = json.loads(line.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise encoding_fault(source) or DataError(f"{source.name}: line {number} is not UTF-8", where=where) from None
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise DataError(
            f"{source.name}: line {number} is not valid JSON: {reason}",
            where=f"{where}: {shortened(_text(line))}",
            fix=_ONE_PER_LINE,
        ) from None
    if not isinstance(row, dict):
        raise DataError(
            f"{source.name}: line {number} is not a JSON object: {shortened(_text(line))}",
            where=where,
            fix=_ONE_PER_LINE,
        )
    return row


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"it holds {constant}, which JSON does not have: write null")


def _refuse_lone_surrogate(source: Path, number: int, line: bytes) -> None:
    try:
        json.dumps(_object(source, number, line), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start].encode("unicode_escape").decode()
        raise DataError(
            f"{source.name}: line {number} holds {half}, half of a surrogate pair",
            where=f"{source}:{number}: {shortened(_text(line))}",
            fix="the text was cut inside a character, such as an emoji: correct it at its source",
        ) from None


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").strip()

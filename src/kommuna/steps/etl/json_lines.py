"""NDJSON line by line: the names of the columns, and what is wrong with a line that cannot be read."""

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

_SAMPLE = 1_000  # lines that are looked at for the names of the columns
_BLOCK = 1 << 20
_BOM = b"\xef\xbb\xbf"
_ONE_A_LINE = "one JSON object a line; a file cut off ends in a broken line"
# Half of a character that is written as two \\u escapes: Polars reads it as the character 0.
_HALF = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)
# A whole number of 16 or more digits that is written with a point or an exponent: Polars reads it as Float64.
# Possessive, from a number's first digit on: a text of a million digits is gone through once.
_LONG_FLOAT = re.compile(
    rb"(?<![0-9.])(?:[0-9]{16,}+(?:[.]0*+(?![0-9])|(?:[.]0*+)?[eE])|[0-9][0-9.]{15,}+[eE][+]?[0-9])"
)
_ESCAPED_KEY = r'\\.(?:[^"\\]|\\.)*"\s*:'


def json_columns(source: Path) -> list[str]:
    """The column names in the first lines of an NDJSON file, in the order in which they come.

    Raises:
        DataError: a line is not UTF-8 or no JSON object, or there is none.
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
    """The lines of an NDJSON file that are not blank.

    Args:
        source: the file.
        names: of the columns that are read.

    Raises:
        DataError: a text in a line holds half of a character, a line names a column twice, or a whole number has more
            digits than Float64 keeps; names the line.
    """
    rows = number = 0
    names = set(names)
    for lines in _blocks(source):
        blank = sum(map(bytes.isspace, lines))
        block = b"".join(lines)
        for at in _matching(_HALF, block, lines):
            _refuse_half(source, number + at + 1, lines[at])
        for at in _matching(_LONG_FLOAT, block, lines):
            _refuse_lost_digits(source, number + at + 1, lines[at], names)
        for at in _perhaps_twice(lines, names):
            _refuse_twice(source, number + at + 1, lines[at], names)
        rows, number = rows + len(lines) - blank, number + len(lines)
    return rows


def json_fault(source: Path, lists: Set[str], schema: dict[str, pl.DataType], error: Exception) -> DataError:
    """Why Polars could not read an NDJSON file, with the line or the row."""
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
    """The places of a block's lines in which a pattern is found; of most blocks none, which one search tells."""
    return [at for at, line in enumerate(lines) if pattern.search(line)] if pattern.search(block) else []


def _perhaps_twice(lines: list[bytes], names: Set[str]) -> list[int]:
    """The places of lines in which a name may stand twice: Polars would take the first, other readers the last."""
    texts = pl.Series(lines, dtype=pl.Binary).cast(pl.String, strict=False)
    often = texts.str.contains(_ESCAPED_KEY)
    for name in names:
        often |= texts.str.count_matches(json.dumps(name, ensure_ascii=False), literal=True) > 1
    return often.fill_null(False).arg_true().to_list()


def _refuse_twice(source: Path, number: int, line: bytes, names: Set[str]) -> None:
    pairs = json.loads(line, object_pairs_hook=list) if _is_object(line) else []
    often = Counter(name for name, _ in pairs)
    for name in sorted(names):
        if often[name] > 1:
            raise DataError(
                f"{source.name}: line {number} names '{name}' twice",
                where=f"{source}:{number}: {shortened(_text(line))}",
                fix="keep one of them: readers differ in which they take",
            )


def _refuse_lost_digits(source: Path, number: int, line: bytes, names: Set[str]) -> None:
    """Refuses 9007199254740993.0, which would be read as …992; decimal fractions are what floats are for."""
    values = json.loads(line, parse_float=_Float) if _is_object(line) else {}
    for name in sorted(names & set(values)):
        for value in _floats(values[name]):
            if value.loses_digits():
                raise DataError(
                    f"column '{name}': {value} in line {number} would be read as {float(value):.0f}",
                    where=f"{source}:{number}: {shortened(_text(line))}",
                    fix="write whole numbers without point and exponent, or as texts",
                )


class _Float(str):
    """A JSON number with a point or an exponent, as it is written."""

    def loses_digits(self) -> bool:
        """Whether it is a whole number that Float64 turns into another one."""
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
        return False  # Polars says so


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
        fix="numbers beyond 1.8e308 are no JSON that can be read: write null, or a text",
    )


def _readable(lines: bytes, schema: dict[str, pl.DataType]) -> str | None:
    """Why lines cannot be read; None if they can."""
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
        row = json.loads(line.decode(), parse_constant=_no_number)
    except UnicodeDecodeError:
        raise encoding_fault(source) or DataError(f"{source.name}: line {number} is not UTF-8", where=where) from None
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise DataError(
            f"{source.name}: line {number} is not valid JSON: {reason}",
            where=f"{where}: {shortened(_text(line))}",
            fix=_ONE_A_LINE,
        ) from None
    if not isinstance(row, dict):
        raise DataError(
            f"{source.name}: line {number} is no JSON object: {shortened(_text(line))}", where=where, fix=_ONE_A_LINE
        )
    return row


def _no_number(constant: str) -> None:
    raise ValueError(f"it holds {constant}, which JSON does not have: write null")


def _refuse_half(source: Path, number: int, line: bytes) -> None:
    try:
        json.dumps(_object(source, number, line), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start].encode("unicode_escape").decode()
        raise DataError(
            f"{source.name}: line {number} holds {half}, half of a character",
            where=f"{source}:{number}: {shortened(_text(line))}",
            fix="the text was cut within a character, such as an emoji: correct it where it is written",
        ) from None


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").strip()

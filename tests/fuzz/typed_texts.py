"""Texts that may be values of a declared type, and their values according to Python."""

from __future__ import annotations

import math
import re
import struct
from datetime import UTC, date, datetime
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from kommuna.spec.table import DTYPES

REFUSED = object()  # no value of the type
EITHER = object()  # a reader may take it or refuse it
_INT = re.compile(r"[+-]?[0-9]+")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_STAMP = re.compile(rf"{_DAY}[T ][0-9]{{2}}:[0-9]{{2}}(?::[0-9]{{2}}(?:\.[0-9]{{1,9}})?)?")
_OFFSET = re.compile(r"[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?")

LETTERS = st.characters(
    codec="utf-8", categories=["L", "N", "P", "S", "Zs", "M", "Cc", "Cf"], include_characters='",\n\r\t;| \0\x1aа😀'
)
TEXTS = st.one_of(st.text('ab",\n\r ;|\tя', max_size=5), st.text(LETTERS, max_size=8))
NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.integers(-300, 300).map(str),
    st.floats().map(repr),
    st.sampled_from(
        ["+5", "007", "-0", " 3 ", "1_0", "1e3", "1.0", "−1", "٣", ".5", "5.", "1,5", "0x10", "1d5", "1e400", "1e-400",
         "-1e999", "NaN", "nan", "inf", "-Infinity", "9007199254740993", "9007199254740993.0", "16777217", "--1", "+",
         "9223372036854775807", "9223372036854775808", "-9223372036854775809", "18446744073709551615", "1e5", "e5",
         "0." + "1" * 400, "9" * 400, "1" + "0" * 30, "1\0", "\t7", "７", "5%", "1 000"]
    ),
)  # fmt: skip
DAYS = st.one_of(
    st.dates().map(str),
    st.datetimes().map(str),
    st.datetimes().map(lambda t: t.isoformat() + "+03:00"),
    st.datetimes().map(lambda t: t.replace(microsecond=0).isoformat() + "Z"),
    st.sampled_from(
        ["0000-01-01", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00+14:00", "2026-02-30",
         "2026-09-01T24:00:00", "2026-09-01T23:59:60", "01.09.2026", "2026-9-1", "10000-01-01", "2026-09-01 12:30",
         "2026-09-01T12:30:00.123456789", "2026-09-01T12:30+00", "2026-09-01t12:30:00z", "2026-09-01T12:30:00+25:00",
         "2026-09-01T12:30:00+03:60", "2026-W36-2", "-2026-09-01", "2026-09-01T", "1e5", "２０26-09-01"]
    ),
)  # fmt: skip
BOOLS = st.sampled_from(["true", "FALSE", "True", "1", "0", "yes", "t", " true ", "2", "-1", "01", "TRUE\0", "ﬁ"])
_OF = {"Int": NUMBERS, "UIn": NUMBERS, "Flo": NUMBERS, "Dat": DAYS, "Boo": BOOLS}


def texts_of(dtype: str) -> st.SearchStrategy[str]:
    """Draws texts, many of which are values of the type."""
    own = _OF.get(dtype[:3], TEXTS)
    return st.one_of(own, own, own, st.just(""), TEXTS if own is not TEXTS else NUMBERS)


def plain_of(dtype: str) -> st.SearchStrategy[str]:
    """Draws texts that every reader reads as a value of the type, formatted as by Python."""
    if "Int" in dtype:
        bits = int(dtype.removeprefix("U").removeprefix("Int"))
        low, high = (0, 2**bits - 1) if dtype.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return st.integers(low, high).map(str)
    if dtype.startswith("Float"):
        width: Any = 64 if dtype == "Float64" else 32
        floats = st.floats(allow_nan=False, allow_infinity=False, width=width).map(repr)
        return floats.filter(lambda text: value_of(text, dtype) is not EITHER)
    return {
        "Boolean": st.sampled_from(["true", "false", "1", "0"]),
        "Date": st.dates().map(str),
        "Datetime": st.datetimes().map(datetime.isoformat),
        "DatetimeUTC": st.datetimes(date_min(), date_max()).map(lambda t: t.isoformat() + "+03:00"),
    }.get(dtype, TEXTS.filter(lambda text: "\0" not in text))


def column_of(draw: st.DrawFn, dtype: str) -> st.SearchStrategy[str]:
    """Draws the texts of one column of a file; most columns are valid."""
    return draw(st.sampled_from([plain_of(dtype), st.one_of(plain_of(dtype), st.just("")), texts_of(dtype)]))


def date_min() -> datetime:
    """Returns the first time whose offset is within Python's calendar."""
    return datetime(1, 1, 3)


def date_max() -> datetime:
    """Returns the last such time."""
    return datetime(9999, 12, 29)


DTYPE = st.sampled_from(DTYPES)


def value_of(text: str, dtype: str) -> Any:
    """Returns the value of a text as a type; None if it is empty, REFUSED, or EITHER."""
    if dtype == "String":
        return text
    if dtype == "List(String)":
        return text.split("|") if text else None
    plain = text.strip()
    if not plain:
        return None
    if dtype == "Boolean":
        return {"true": True, "1": True, "false": False, "0": False}.get(plain.lower(), REFUSED)
    if "Int" in dtype:
        return _whole(plain, dtype)
    if dtype.startswith("Float"):
        return _float(plain, dtype)
    if dtype == "Date":
        return _read(date.fromisoformat, plain) if re.fullmatch(_DAY, plain) else REFUSED
    return _stamp(plain, utc=dtype == "DatetimeUTC")


def _whole(plain: str, dtype: str) -> Any:
    if not _INT.fullmatch(plain):
        return REFUSED
    bits = int(dtype.removeprefix("U").removeprefix("Int"))
    low, high = (0, 2**bits - 1) if dtype.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    value = int(plain) if len(plain) < 100 else 2**99
    return value if low <= value <= high else REFUSED


def _float(plain: str, dtype: str) -> Any:
    """Returns a finite number; a whole number with many digits may be refused, but must not change."""
    if not _FLOAT.fullmatch(plain):
        return REFUSED
    exact = Fraction(plain)
    value = float(exact) if abs(exact) < 2**1024 - 2**970 else math.inf
    if dtype == "Float32":
        try:
            value = struct.unpack("f", struct.pack("f", value))[0]
        except OverflowError:
            return REFUSED
    if math.isinf(value):
        return REFUSED
    if exact.denominator == 1 and exact != Fraction(value):
        many = len(str(abs(exact.numerator)).rstrip("0")) > (15 if dtype == "Float64" else 6)
        return REFUSED if many and "e" not in plain.lower() else EITHER
    return value


def _stamp(plain: str, *, utc: bool) -> Any:
    if not utc and re.fullmatch(_DAY, plain):
        return _read(datetime.fromisoformat, plain)
    found = _STAMP.match(plain)
    if found is None or not (_OFFSET.fullmatch(plain[found.end() :]) if utc else found.end() == len(plain)):
        return REFUSED
    head, _, fraction = found.group().partition(".")
    offset = plain[found.end() :].upper()
    offset = offset if ":" in offset or len(offset) < 4 else f"{offset[:3]}:{offset[3:]}"
    value = _read(datetime.fromisoformat, head + (f".{fraction[:6]:0<6}" if fraction else "") + offset)
    if value is REFUSED or not utc:
        return value
    try:
        return value.astimezone(UTC)
    except OverflowError:
        return EITHER  # outside of Python's calendar


def _read(how: Any, text: str) -> Any:
    try:
        return how(text)
    except ValueError:
        return REFUSED

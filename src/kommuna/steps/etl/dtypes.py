"""Maps declared type names to Polars types, parses text as values of them, and finds values that would change."""

from __future__ import annotations

import polars as pl

_DTYPES: dict[str, pl.DataType] = {
    "String": pl.String(),
    "Boolean": pl.Boolean(),
    "Int8": pl.Int8(),
    "Int16": pl.Int16(),
    "Int32": pl.Int32(),
    "Int64": pl.Int64(),
    "UInt8": pl.UInt8(),
    "UInt16": pl.UInt16(),
    "UInt32": pl.UInt32(),
    "UInt64": pl.UInt64(),
    "Float32": pl.Float32(),
    "Float64": pl.Float64(),
    "Date": pl.Date(),
    "Datetime": pl.Datetime("us"),
    "DatetimeUTC": pl.Datetime("us", "UTC"),
    "List(String)": pl.List(pl.String()),
}


def polars_dtype(name: str) -> pl.DataType:
    """The Polars type of a declared type name (one of `kommuna.spec.table.DTYPES`)."""
    return _DTYPES[name]


_DAY = "^[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = "[T ][0-9]{2}:[0-5][0-9](?::[0-5][0-9](?:[.][0-9]{1,9})?)?"  # no second 60: it would be the next minute's
_NAMED = "(?i)^[+-]?(?:nan|inf|infinity)$"
_WHOLE = "^[+-]?0*([0-9]*?)0*(?:[.]0*)?$"
_DIGITS = 15  # numbers of up to this many decimal digits are distinct as Float64


def parsed(column: pl.Expr, dtype: str) -> pl.Expr:
    """Parses text as values of a type; text that is empty or cannot be parsed is null.

    Numbers have a decimal point, times are ISO 8601 (`2026-09-01T12:30:00`, a space for the T, seconds optional).

    Args:
        column: a String column.
        dtype: the declared type, one of `DTYPES`.
    """
    if dtype == "String":
        return column
    if dtype == "List(String)":
        return pl.when(column != "").then(column.str.split("|"))
    text = column.str.strip_chars()
    if dtype == "Boolean":
        lower = text.str.to_lowercase()
        return pl.when(lower.is_in(["true", "1"])).then(True).when(lower.is_in(["false", "0"])).then(False)
    if dtype == "Date":
        return _in_calendar(text.str.contains(f"{_DAY}$"), text.str.to_date("%Y-%m-%d", strict=False))
    if dtype == "Datetime":
        stamp = text.str.replace(" ", "T", literal=True)
        forms = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M")
        day = text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
        value = pl.coalesce(*(stamp.str.to_datetime(form, strict=False, time_unit="us") for form in forms), day)
        return _in_calendar(text.str.contains(f"{_DAY}(?:{_TIME})?$"), value)
    if dtype == "DatetimeUTC":
        stamp = text.str.to_uppercase().str.replace(" ", "T", literal=True)
        value = pl.coalesce(
            stamp.str.to_datetime(form, strict=False, time_unit="us", time_zone="UTC")
            for form in ("%+", "%Y-%m-%dT%H:%M%#z", "%Y-%m-%dT%H:%M:%S%.f%#z")
        )
        return _in_calendar(stamp.str.contains(f"{_DAY}{_TIME}(?:Z|[+-][0-9]{{2}}(?::?[0-9]{{2}})?)$"), value)
    return text.cast(polars_dtype(dtype), strict=False)


def _in_calendar(written: pl.Expr, value: pl.Expr) -> pl.Expr:
    """Keeps times of the expected form in the years 1 to 9999, the range of Python and databases."""
    return pl.when(written & value.dt.year().is_between(1, 9999)).then(value)


def suspicious(value: pl.Expr, dtype: str) -> pl.Expr:
    """A cheap test for floats that are not finite, or too large for every whole number near them to be a float.

    Args:
        value: a float column.
        dtype: `Float32` or `Float64`.
    """
    return ~value.is_finite() | (value.abs() >= 2.0 ** (53 if dtype == "Float64" else 24))


def not_finite(text: pl.Expr) -> pl.Expr:
    """Whether a text spells NaN or infinity."""
    return text.str.strip_chars().str.contains(_NAMED)


def inexact(text: pl.Expr, dtype: str) -> pl.Expr:
    """Whether a text is a number that a float type would change: too large, or a whole number with many digits.

    Decimal fractions are rounded as usual, but ids must not change: `9007199254740993` would become `…992`.

    Args:
        text: a String column.
        dtype: `Float32` or `Float64`.
    """
    plain = text.str.strip_chars()
    value = plain.cast(polars_dtype(dtype), strict=False)
    digits = plain.str.extract(_WHOLE).str.len_bytes()
    whole = plain.str.replace("[.]0*$", "").str.strip_prefix("+").cast(pl.Int128, strict=False)
    other = (whole.is_null() | (whole != value.cast(pl.Int128, strict=False))).fill_null(True)
    many = digits > (_DIGITS if dtype == "Float64" else 6)
    return ((value.is_infinite() & ~not_finite(text)) | (many & other)).fill_null(False)


def changed_values(value: pl.Expr, found: pl.DataType, dtype: str) -> pl.Expr | None:
    """Returns which values of a found type a declared float type would change; None if it changes none.

    Args:
        value: the column.
        found: the type that the file gives it.
        dtype: the declared type, one of `DTYPES`.
    """
    wanted = polars_dtype(dtype)
    exact = 53 if wanted == pl.Float64 else 24
    if not wanted.is_float() or found.is_float() or found == pl.Null:
        return None
    if found.is_integer() and int(str(found).lstrip("UInt")) <= exact:
        return None
    back = value.cast(wanted).cast(found, strict=False)
    return value.is_not_null() & (back.is_null() | (back != value))


def widens(found: pl.DataType, dtype: str) -> bool:
    """Whether every value of a found type is also a value of the declared one.

    Args:
        found: the type that the file gives a column.
        dtype: the declared type, one of `DTYPES`.
    """
    wanted = polars_dtype(dtype)
    if found == wanted or found == pl.Null:
        return True
    if found.is_integer() and wanted.is_integer():
        low, high = _range(wanted)
        found_low, found_high = _range(found)
        return low <= found_low and found_high <= high
    if found.is_numeric() and wanted.is_float():
        return not (found == pl.Float64 and wanted == pl.Float32)
    if isinstance(found, pl.Datetime) and isinstance(wanted, pl.Datetime):
        return (found.time_zone is None) == (wanted.time_zone is None)
    if dtype == "String":
        return isinstance(found, pl.Categorical | pl.Enum)
    if dtype == "List(String)":
        return isinstance(found, pl.List) and widens(found.inner, "String")  # type: ignore[arg-type]
    return False


def _range(dtype: pl.DataType) -> tuple[int, int]:
    bits = int(str(dtype).removeprefix("UInt").removeprefix("Int"))
    if str(dtype).startswith("U"):
        return 0, 2**bits - 1
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

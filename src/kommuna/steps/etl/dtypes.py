"""Declared type names as Polars types, and how text becomes a value of each."""

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


def parsed(column: pl.Expr, dtype: str) -> pl.Expr:
    """Text as values of a type; what cannot be read, and empty text, is null.

    Numbers have a decimal point, times are ISO 8601 (`2026-09-01T12:30:00`, a space for the T, seconds optional).
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
        return text.str.to_date("%Y-%m-%d", strict=False)
    if dtype == "Datetime":
        stamp = text.str.replace(" ", "T", literal=True)
        forms = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M")
        day = text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
        return pl.coalesce(*(stamp.str.to_datetime(form, strict=False, time_unit="us") for form in forms), day)
    if dtype == "DatetimeUTC":
        return text.str.to_datetime("%+", strict=False, time_unit="us", time_zone="UTC")
    return text.cast(polars_dtype(dtype), strict=False)


def widens(found: pl.DataType, dtype: str) -> bool:
    """Whether every value of a found type is a value of the declared one."""
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

"""The declared schema of a table: the columns that a file must have, and their types."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from kommuna.errors import nearest
from kommuna.spec.base import Spec

DTYPES = (
    "String",
    "Boolean",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "UInt8",
    "UInt16",
    "UInt32",
    "UInt64",
    "Float32",
    "Float64",
    "Date",
    "Datetime",  # without a time zone
    "DatetimeUTC",  # written with an offset, kept in UTC
    "List(String)",  # in CSV: a|b|c
)
_COMMON = {"str": "String", "text": "String", "int": "Int64", "integer": "Int64", "float": "Float64", "bool": "Boolean"}
_COMMON |= {"double": "Float64", "timestamp": "Datetime", "list": "List(String)", "number": "Float64"}


class TableSchema(Spec):
    """Columns by name, each with the name of its type.

    Attributes:
        columns: column name to type name, one of `DTYPES`.
        required: columns that may hold no null.
        non_finite: how to treat NaN and infinity in a Float column: `refuse` (an error that names the row), or `null`.

    >>> TableSchema(columns={"id": "String", "amount": "Float64"}, required=("id",)).columns["amount"]
    'Float64'
    """

    columns: dict[str, str] = Field(min_length=1)
    required: tuple[str, ...] = ()
    non_finite: Literal["refuse", "null"] = "refuse"

    @field_validator("columns")
    @classmethod
    def _known_dtypes(cls, columns: dict[str, str]) -> dict[str, str]:
        for column, dtype in columns.items():
            if dtype not in DTYPES:
                hint = _nearest_dtype(dtype)
                raise ValueError(f"column '{column}' has unknown type '{dtype}'{hint}; one of {', '.join(DTYPES)}")
        return columns

    @field_validator("columns")
    @classmethod
    def _names_are_names(cls, columns: dict[str, str]) -> dict[str, str]:
        for column in columns:
            if is_pattern(column):
                raise ValueError(f"column '{column}' has the name of a pattern: rename it in the file")
        return columns

    @model_validator(mode="after")
    def _required_are_columns(self) -> Self:
        for column in self.required:
            if column not in self.columns:
                raise ValueError(f"required column '{column}' is not declared{nearest(column, self.columns)}")
        return self


def is_pattern(column: str) -> bool:
    """Whether Polars reads a column's name as a pattern that selects columns.

    >>> is_pattern("*"), is_pattern("^x.*$"), is_pattern("a*b")
    (True, True, False)
    """
    return column == "*" or (column.startswith("^") and column.endswith("$"))


def _nearest_dtype(dtype: str) -> str:
    plain = {name.lower(): name for name in DTYPES} | _COMMON
    exact = plain.get(dtype.lower())
    if exact:
        return f" (did you mean '{exact}'?)"
    return nearest(dtype, DTYPES) or nearest(dtype.lower(), plain)

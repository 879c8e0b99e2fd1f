"""Converts the arguments of a step that is called from a notebook: tables, rules, paths and numbers."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import polars as pl

from kommuna.errors import DataError, SpecError
from kommuna.spec.base import Spec
from kommuna.spec.words import as_type
from kommuna.steps.etl.untyped import read_untyped

P = ParamSpec("P")
R = TypeVar("R")


def takes_frames(step: Callable[P, R]) -> Callable[P, R]:
    """Decorates a step so that it converts its arguments to their annotated types.

    - `pl.LazyFrame`, or a dict of them: accepts all that `lazy_table` does;
    - a spec, such as `RuleSet`: also accepts a dict, or the path of a YAML file;
    - `Path`: also accepts a str;
    - a bounded type, such as `Share`: refuses values out of bounds.

    The runtime passes the annotated types, which are not converted.
    """
    signature = inspect.signature(step)
    wanted = functools.cache(lambda: typing.get_type_hints(step, include_extras=True))

    @functools.wraps(step)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            if value is not None:
                bound.arguments[name] = _as(wanted()[name], value, name)
        return step(*bound.args, **bound.kwargs)

    return call


def lazy_table(value: Any, name: str) -> pl.LazyFrame:
    """Converts a table to a LazyFrame.

    Args:
        value: a polars LazyFrame or DataFrame; a pandas DataFrame, whose index becomes columns if it has a name; the
            path of a CSV, NDJSON or Parquet file; or the result of a step, whose table of that name is used.
        name: name of the argument, such as `dev_votes`; its last word is the table's name in a step's result.

    Raises:
        DataError: the value is none of these, or the file is missing or has another format.
    """
    if isinstance(value, pl.LazyFrame):
        return value
    if isinstance(value, pl.DataFrame):
        return value.lazy()
    if is_pandas(value):
        named = any(level is not None for level in value.index.names)
        try:
            return pl.from_pandas(value, include_index=named).lazy()
        except Exception as error:
            raise DataError(
                f"{name}: the pandas table cannot be read: {error}",
                where=name,
                fix="give each column one type and a unique name of type str",
            ) from None
    if isinstance(value, str | Path):
        return scan_file(Path(value))
    fields = getattr(value, "_fields", ())
    own = [field for field in fields if name == field or name.endswith(f"_{field}")]
    if own and getattr(value, own[0]) is not None:
        return lazy_table(getattr(value, own[0]), name)
    raise DataError(
        f"{name} is not a table but {_described(value)}",
        where=name,
        fix="give a polars LazyFrame or DataFrame, a pandas DataFrame, or the path of a CSV, NDJSON or Parquet file",
    )


def scan_file(path: Path, *, keys: Sequence[str] = ()) -> pl.LazyFrame:
    """Scans a file by its ending, as strictly as `read_table`.

    Args:
        path: a CSV, NDJSON or Parquet file.
        keys: columns of CSV that are read as whole numbers or texts.

    Raises:
        DataError: the file is missing, has another format, or cannot be read; names the row.
    """
    return read_untyped(path, keys=keys)


def is_pandas(value: Any) -> bool:
    """Whether a value is a pandas DataFrame; does not import pandas."""
    return type(value).__module__.partition(".")[0] == "pandas" and type(value).__name__ == "DataFrame"


def _as(wanted: Any, value: Any, name: str) -> Any:
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        kept = [part for part in typing.get_args(wanted) if part is not type(None)]
        return _as(kept[0], value, name) if len(kept) == 1 else value
    if typing.get_origin(wanted) is Annotated:
        return as_type(wanted, value, name)
    if wanted is pl.LazyFrame:
        return lazy_table(value, name)
    if typing.get_origin(wanted) is dict and typing.get_args(wanted)[1] is pl.LazyFrame and isinstance(value, Mapping):
        return {key: lazy_table(table, str(key)) for key, table in value.items()}
    if wanted is Path and isinstance(value, str):
        return Path(value)
    if isinstance(wanted, type) and issubclass(wanted, Spec) and not isinstance(value, wanted):
        if isinstance(value, Mapping | str | Path):
            return wanted.read(value, where=name)
        raise SpecError(
            f"{name} is not a {wanted.__name__} but {_described(value)}",
            where=name,
            fix=f"give a {wanted.__name__}, a dict, or the path of a YAML file",
        )
    return value


def _described(value: Any) -> str:
    fields = getattr(value, "_fields", ())
    a = "an" if type(value).__name__[0] in "aeiouAEIOU" else "a"
    return f"{a} {type(value).__name__}" + (f" of {', '.join(fields)}" if fields else "")

"""Whether a value is plain data: what JSON, the manifest and Airflow's database can hold without changing it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any


def not_plain(value: Any, place: str) -> str | None:
    """The first part of a value that JSON cannot hold as it is, and why; None where there is none.

    JSON writers turn NaN and infinity into null, and fail on a set or half of a surrogate pair.

    Args:
        place: what the value is called, for the answer.

    >>> not_plain({"loss": [0.5, float("nan")]}, "result")
    'result.loss[1] is nan'
    """
    if value is None or isinstance(value, bool | int):
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{place} is {value}"
    if isinstance(value, str):
        return f"{place} is the text {value[:40]!a}, which is not Unicode" if _is_broken(value) else None
    if isinstance(value, Mapping):
        for name, item in value.items():
            if not isinstance(name, str | int | float | bool) and name is not None:
                return f"{place} has the key {_shown(name)}, a {type(name).__name__}"
            if fault := not_plain(name, f"a key of {place}") or not_plain(item, f"{place}.{name}"):
                return fault
        return None
    if isinstance(value, list | tuple):
        return next(filter(None, (not_plain(item, f"{place}[{i}]") for i, item in enumerate(value))), None)
    return f"{place} is a {type(value).__name__}: {_shown(value)}"


def not_json_scalar(value: Any, place: str) -> str | None:
    """The first NaN, infinity or broken text in a value whose other types are turned into JSON's by pydantic."""
    if isinstance(value, float | str):
        return not_plain(value, place)
    parts: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, list | tuple | set | frozenset):
        parts = enumerate(value)
    return next(filter(None, (not_json_scalar(item, f"{place}.{part}") for part, item in parts)), None)


def readable(text: str) -> str:
    """The text with a replacement for each half of a surrogate pair, which no file or database takes."""
    return text.encode("utf-8", "replace").decode("utf-8") if _is_broken(text) else text


def _is_broken(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _shown(value: object) -> str:
    shown = ascii(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."

"""Checks whether JSON, the manifest and Airflow's database can hold a value, and converts values to plain JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections import deque
from collections.abc import ItemsView, Iterable, KeysView, Mapping, Sequence, Set, ValuesView
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from pydantic import BaseModel, PydanticUserError, RootModel, TypeAdapter

MAX_DEPTH = 50  # pydantic writes up to 255 levels of JSON; the canonical form may need four for each level
MAX_BITS = 14_000  # Python reads and writes integers of up to 4300 digits

_ISO_DURATION: TypeAdapter[Any] = TypeAdapter(timedelta)
_NUMBER = "give null (None) where there is no number, or leave it out"
UNICODE = "give Unicode text; other bytes as base64, or as a file in the step's inputs"
_TYPES = "give numbers, texts, dates, lists, dicts or pydantic models; of a numpy array its tolist()"
_FLAT = "write it flat, or hand it in as a file in the step's inputs"


class NotJson(ValueError):
    """A part of a value that JSON cannot hold.

    Args:
        place: dotted path of the part, beginning with the value's name.
        why: the problem, as the rest of a sentence that begins with `place`.
        fix: what to pass instead.
    """

    def __init__(self, place: str, why: str, fix: str) -> None:
        super().__init__(f"{place} {why}")
        self.place, self.why, self.fix = place, why, fix


def as_json(value: Any, place: str, *, depth: int = 0) -> Any:
    """Converts a value to JSON from which pydantic reads an equal value of the same type.

    Dates, durations, decimals, paths and UUIDs become strings, sets sorted lists, models dicts. Lists and dicts keep
    their order.

    Args:
        value: any value.
        place: the value's name, for error messages.
        depth: levels of nesting above the value.

    Raises:
        NotJson: a part is NaN, infinite, not Unicode, or of a type that pydantic does not read from JSON; or two keys
            of a dict become the same string.

    >>> as_json({"since": date(2026, 1, 31), 1: {"b", "a"}}, "x")
    {'since': '2026-01-31', '1': ['a', 'b']}
    """
    if depth > MAX_DEPTH:
        raise NotJson(f"{place[:40]}…", f"is nested more than {MAX_DEPTH} deep, or holds itself", _FLAT)
    if isinstance(value, Enum):
        return as_json(value.value, place, depth=depth + 1)
    value = _without_numpy(value, place)
    if value is None or isinstance(value, bool | int | float | str):
        return _scalar(value, place)
    text = _as_text(value, place)
    if text is not None:
        return _scalar(text, place)
    if isinstance(value, RootModel):
        return as_json(value.root, place, depth=depth + 1)
    if isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return _of_fields(value, place, depth)
    if isinstance(value, Mapping):
        return _of_mapping(value, place, depth)
    if isinstance(value, Sequence | deque | KeysView | ItemsView | ValuesView):
        return [as_json(item, f"{place}[{i}]", depth=depth + 1) for i, item in enumerate(value)]
    if isinstance(value, Set):
        items = [as_json(item, f"{place}.{_shown(item)}", depth=depth + 1) for item in value]
        return sorted(items, key=json.dumps)
    return _as_pydantic_has_it(value, place)


def not_plain(value: Any, place: str) -> str | None:
    """Finds the first part of a value that JSON cannot hold unchanged, and explains why; None where there is none.

    JSON writers convert NaN and infinity to null, and fail on a set or half of a surrogate pair.

    Args:
        value: any value.
        place: the value's name, for the explanation.

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
        return _two_keys_as_one(value, place)
    if isinstance(value, list | tuple):
        return next(filter(None, (not_plain(item, f"{place}[{i}]") for i, item in enumerate(value))), None)
    return f"{place} is a {type(value).__name__}: {_shown(value)}"


def not_json_scalar(value: Any, place: str) -> str | None:
    """Finds the first NaN, infinity, broken text or duplicate key in a value that pydantic can otherwise write.

    Args:
        value: the value, nested to any depth.
        place: the value's name, for the error.
    """
    if isinstance(value, float | str):
        return not_plain(value, place)
    parts: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        if fault := _two_keys_as_one(value, place):
            return fault
        parts = value.items()
    elif isinstance(value, list | tuple | set | frozenset):
        parts = enumerate(value)
    return next(filter(None, (not_json_scalar(item, f"{place}.{part}") for part, item in parts)), None)


def readable(text: str) -> str:
    """Replaces each half of a surrogate pair in a text, which files and databases reject."""
    return text.encode("utf-8", "replace").decode("utf-8") if _is_broken(text) else text


def _scalar(value: Any, place: str) -> Any:
    if isinstance(value, str):
        if _is_broken(value):
            raise NotJson(place, f"is the text {value[:40]!a}, which is not Unicode", UNICODE)
        return str.__str__(value)  # the text itself, also where a subclass overrides __str__
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NotJson(place, f"is {value}, which JSON does not have", _NUMBER)
        return float(value)
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise NotJson(place, "is a whole number of more than 4200 digits", "give it as text")
    return value if value is None or isinstance(value, bool) else int(value)


def _as_text(value: Any, place: str) -> str | None:
    """Converts a date, duration, decimal, path, UUID or bytes to text; returns None for other types."""
    if isinstance(value, PurePath | UUID):
        return str(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise NotJson(place, f"is {value}, which JSON does not have", _NUMBER)
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            return bytes(value).decode("utf-8")
        except UnicodeDecodeError:
            raise NotJson(place, f"is {_shown(bytes(value))}, which is not UTF-8", UNICODE) from None
    for kind in (datetime, date, time, timedelta):
        if isinstance(value, kind):
            text = str(
                value.isoformat() if hasattr(value, "isoformat") else _ISO_DURATION.dump_python(value, mode="json")
            )
            if not _is_read_back(value, text, kind):
                raise NotJson(place, f"is {value}, which is not read back as the same {kind.__name__}", _TYPES)
            return text
    return None


def _two_keys_as_one(value: Mapping[Any, Any], place: str) -> str | None:
    """Reports two keys of a dict that become the same JSON key; None where there are none."""
    seen: set[str] = set()
    for key in value:
        text = json.dumps(key) if key is None or isinstance(key, bool | int | float) else str(key)
        if text in seen:
            return f"{place} {_two_keys(text)}"
        seen.add(text)
    return None


def _two_keys(text: str) -> str:
    return f"has two keys that JSON writes as '{text}'"


def _of_mapping(value: Mapping[Any, Any], place: str, depth: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, item in value.items():
        name = as_json(key, f"a key of {place}", depth=depth + 1)
        if isinstance(name, list | dict):
            raise NotJson(place, f"has the key {_shown(key)}, a {type(key).__name__}", "give texts as keys")
        name = name if isinstance(name, str) else json.dumps(name)
        if name in made:
            raise NotJson(place, _two_keys(name), "give each key once, as text")
        made[name] = as_json(item, f"{place}.{name}", depth=depth + 1)
    return made


def _of_fields(value: Any, place: str, depth: int) -> Any:
    """Converts a model or dataclass to a dict of its fields, by the names that validation reads."""
    names: dict[str, str] = {}
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            alias = field.validation_alias
            names[name] = alias if isinstance(alias, str) else name
        names |= {name: name for name in value.model_extra or {}}
    else:
        names = {field.name: field.name for field in dataclasses.fields(value) if field.init}
    try:
        made = {
            alias: as_json(getattr(value, name), f"{place}.{name}", depth=depth + 1) for name, alias in names.items()
        }
    except NotJson as fault:
        try:  # the model itself may define a JSON form of the field
            return _as_pydantic_has_it(value, place)
        except NotJson:
            raise fault from None
    if not _is_read_back(value, made, type(value)) and not _has_equal_json(value, made):
        raise NotJson(
            place, f"is a {type(value).__name__}, {_shown(value)}, which its model does not read back", _TYPES
        )
    return made


def _has_equal_json(value: Any, made: Any) -> bool:
    """Whether the value read back has the same JSON: a date in a field of type Any, for example, is read as text."""
    adapter = TypeAdapter(type(value))
    try:
        read = adapter.validate_python(made)
        return bool(adapter.dump_python(read, mode="json") == adapter.dump_python(value, mode="json"))
    except (PydanticUserError, ValueError, TypeError):
        return False


def _as_pydantic_has_it(value: Any, place: str) -> Any:
    """Converts a value of another type by pydantic, if pydantic reads an equal value back."""
    try:
        text = TypeAdapter(type(value)).dump_python(value, mode="json", by_alias=True, round_trip=True)
    except (PydanticUserError, ValueError, TypeError, AttributeError):
        text = value
    if text is value or not_plain(text, "") or not _is_read_back(value, text, type(value)):
        raise NotJson(place, f"is a {type(value).__name__}, {_shown(value)}, which JSON cannot hold", _TYPES)
    return text


def _is_read_back(value: Any, text: Any, kind: type) -> bool:
    try:
        return bool(TypeAdapter(kind).validate_python(text) == value)
    except (PydanticUserError, ValueError, TypeError):
        return False


def _without_numpy(value: Any, place: str) -> Any:
    """Converts a numpy scalar to a Python scalar. Does not import numpy."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.generic):
        return value
    if value.dtype.kind in "mM":  # Python's dates and durations have microseconds
        micros = value.astype(f"{value.dtype.kind}8[us]")
        if not numpy.isnat(value) and micros == value:
            return micros.item()
        raise NotJson(place, f"is {value}, which JSON cannot hold", "give it in whole microseconds")
    made = value.item()
    if isinstance(made, numpy.generic):
        raise NotJson(place, f"is a {type(value).__name__}, {value}, which JSON cannot hold", _TYPES)
    return made


def _is_broken(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _shown(value: object) -> str:
    shown = ascii(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."

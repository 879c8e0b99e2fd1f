"""Describes validation errors in words for the people who wrote the data, instead of pydantic's own messages."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping
from datetime import date
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from kommuna.errors import SpecError
from kommuna.spec.plain import UNICODE, readable

_SHOWN = 80  # characters of a value in a message
# What is expected, by pydantic's name of the error without its last word (`_type`, `_parsing`).
_EXPECTED = {
    "string": "a text", "int": "a whole number", "float": "a number", "decimal": "a number", "bool": "true or false",
    "list": "a list", "tuple": "a list", "set": "a list", "frozen_set": "a list", "iterable": "a list",
    "sequence": "a list", "dict": "a mapping of names to values", "mapping": "a mapping of names to values",
    "model": "a mapping of names to values", "model_attributes": "a mapping of names to values",
    "dataclass": "a mapping of names to values", "date": "a date, as in 2026-01-31",
    "date_from_datetime": "a date, as in 2026-01-31", "datetime": "a date and time, as in 2026-01-31T12:00:00",
    "datetime_from_date": "a date and time, as in 2026-01-31T12:00:00", "time": "a time, as in 12:00:00",
    "time_delta": "a duration in seconds", "url": "a URL, as in https://host/path", "path": "a path", "bytes": "bytes",
    "uuid": "a UUID", "callable": "a function",
}  # fmt: skip


def as_type(annotation: Any, value: Any, name: str, *, of: str = "") -> Any:
    """A parameter's value as its type has it.

    Args:
        annotation: its type.
        value: as it was given.
        name: the parameter's.
        of: what the parameter is of, as in ` of step own:made`.

    Raises:
        SpecError: the value does not fit; names the parameter, the value and the reason.
        pydantic.PydanticUserError: the type is not a plain one.
    """
    try:
        return TypeAdapter(annotation).validate_python(value)
    except ValidationError as error:
        first = problems(error)[0]
        place, said = place_of_problem((name, *first["loc"])), in_words(first)
        found = "" if ", found " in said else f"; found {shown(value)}"
        raise SpecError(f"parameter '{place}'{of}: {said}{found}", fix=f"its type is {_plain(annotation)}") from None
    except UnicodeEncodeError as error:
        raise SpecError(f"parameter '{name}'{of}: {in_unicode(error)}", fix=UNICODE) from None


def in_words(item: ErrorDetails) -> str:
    """Describes one problem: what is expected, and what was found.

    >>> from pydantic import TypeAdapter
    >>> try: TypeAdapter(int).validate_python("many")
    ... except ValidationError as error: print(in_words(error.errors()[0]))
    expected a whole number, found 'many'
    """
    kind, context, value = item["type"], item.get("ctx", {}), item.get("input")
    if kind == "missing":
        return "is missing"
    if kind in ("value_error", "assertion_error"):
        return item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind == "string_type" and isinstance(value, bool):
        return f"expected a text, found {str(value).lower()}: put it in quotes (YAML reads yes, no, on and off as such)"
    if kind == "string_type" and isinstance(value, int | float | date):
        return f"expected a text, found {value}: put it in quotes"
    if kind == "too_short":
        least, found = context["min_length"], context["actual_length"]
        return f"needs at least {least} item{'s' * (least != 1)}, has {found}"
    return f"expected {_expected(kind, context)}, found {shown(value)}"


def in_unicode(error: UnicodeEncodeError) -> str:
    """Returns a validator's message that pydantic could not pass on: it quotes half of a surrogate pair."""
    return readable(str(error.object))


def problems(error: ValidationError) -> list[ErrorDetails]:
    """Returns pydantic's problems, without lists that are too short only because an item is invalid."""
    found = error.errors()
    caused = [
        item
        for item in found
        if item["type"] == "too_short"
        and any(other is not item and other["loc"][: len(item["loc"])] == item["loc"] for other in found)
    ]
    return [item for item in found if item not in caused]


def place_of_problem(loc: tuple[int | str, ...]) -> str:
    """Returns the dotted location of a problem, without the names of union members, which are in angle brackets."""
    return ".".join(str(part) for part in loc if not str(part).startswith("<"))


def shown(value: Any) -> str:
    """Formats a value as people wrote it, shortened to fit a line."""
    if value is None:
        return "nothing"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _plain(annotation: Any) -> str:
    """A type as people write it, without its bounds, which the message names."""
    unbounded = typing.get_type_hints(types.SimpleNamespace(__annotations__={"it": annotation}))["it"]
    if typing.get_origin(unbounded) in (typing.Union, types.UnionType):
        return " | ".join(map(_plain, typing.get_args(unbounded)))
    if unbounded is types.NoneType:
        return "None"
    return unbounded.__name__ if inspect.isclass(unbounded) else str(unbounded).replace("typing.", "")


def _expected(kind: str, context: Mapping[str, Any]) -> str:
    if kind in ("literal_error", "enum"):
        return f"one of {context['expected']}".replace(" or ", ", ")
    bounds = {
        "greater_than": ("a number above", "gt"),
        "greater_than_equal": ("a number of at least", "ge"),
        "less_than": ("a number below", "lt"),
        "less_than_equal": ("a number of at most", "le"),
        "multiple_of": ("a multiple of", "multiple_of"),
        "string_too_short": ("a text of at least this many characters:", "min_length"),
        "string_too_long": ("a text of at most this many characters:", "max_length"),
        "too_long": ("a list of at most this many items:", "max_length"),
        "string_pattern_mismatch": ("a text that matches", "pattern"),
    }
    if kind in bounds:
        words, name = bounds[kind]
        return f"{words} {context[name]}"
    if kind == "finite_number":
        return "a finite number"
    if kind == "int_from_float":
        return "a whole number"
    if kind == "extra_forbidden":
        return "nothing of that name"
    for name in sorted(_EXPECTED, key=len, reverse=True):
        if kind.startswith(f"{name}_"):
            return _EXPECTED[name]
    return "another value"

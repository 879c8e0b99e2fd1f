"""Coerces a step's parameters to its declared types, for the cache's question and for rendered templates.

Types and defaults are read from the source (`kommuna.store.signatures`), so that a look-up stays cheap. A parameter
whose type is unknown is left unchanged; the runtime validates it.
"""

from __future__ import annotations

import hashlib
import json
import math
import pickle
import typing
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePath
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from kommuna.spec.plain import as_json, not_plain
from kommuna.spec.words import in_unicode, in_words, problems
from kommuna.store.signatures import UNKNOWN, declared_parameters

_AS_GIVEN, _DICT, _FLOAT, _MODEL = "$given", "$dict", "$float", "$model"
_COLLECTIONS: dict[type, str] = {tuple: "$tuple", set: "$set", frozenset: "$frozenset"}
_TEXTS: tuple[type, ...] = (datetime, date, time, Decimal, UUID)


def parameter_types(function: str, *, bundle: Path | None = None) -> dict[str, Any]:
    """Returns the types of a step's keyword arguments that can be determined from its source.

    Args:
        function: `module:function`. One that is not found has no types.
        bundle: the team's folder, searched first.
    """
    declared = declared_parameters(function, bundle=bundle)
    return {name: known.type for name, known in declared.items() if _adapter(known.type) is not None}


def canonical_params(function: str, params: Mapping[str, Any], *, bundle: Path | None) -> dict[str, Any]:
    """Converts a step's parameters to canonical JSON: equal text means values of equal types and order.

    A missing parameter gets its declared default, where the source has a literal for it. Types that JSON lacks are
    marked: `{"$set": [1, 2]}`. Sets have no order, dicts do. A parameter of unknown type is left unchanged and marked
    so; only the step's own process knows the value that the step receives (`bound_params`).

    Args:
        function: `module:function`.
        params: as JSON, as a `StepSpec` has them.
        bundle: the team's folder, searched first.
    """
    made: dict[str, Any] = dict(params)
    known: set[str] = set()
    for name, declared in declared_parameters(function, bundle=bundle).items():
        adapter = _adapter(declared.type)
        if adapter is None:
            continue
        if name in params:
            known.add(name)
            made[name] = _coerced(adapter, params[name])
        elif declared.default is not UNKNOWN:
            try:
                default = _marked(_default(adapter, declared.default))
            except _Unmarkable:
                continue
            if not not_plain(default, name):
                made[name] = default
                known.add(name)
    made = {name: value if name in known else {_AS_GIVEN: value} for name, value in made.items()}
    return dict(sorted(made.items()))


def bound_params(params: Mapping[str, Any]) -> dict[str, Any] | None:
    """Converts parameters as coerced by the step's own process to canonical JSON; None if one cannot be converted.

    Values of the team's types are compared by the digest of their pickle.
    """
    try:
        return {name: _marked_or_digest(value) for name, value in sorted(params.items())}
    except Exception:  # the team's own types may raise anything
        return None


def _marked_or_digest(value: Any) -> Any:
    try:
        return _marked(value)
    except _Unmarkable:
        return {"$pickle": hashlib.sha256(pickle.dumps(value)).hexdigest()}


def without_marks(value: Any) -> Any:
    """Removes the marks of `canonical_params` or `bound_params`, for display."""
    if isinstance(value, list):
        return [without_marks(item) for item in value]
    if not isinstance(value, dict):
        return value
    mark = next(iter(value), "")
    if len(value) != 1 or not mark.startswith("$"):
        return {name: without_marks(item) for name, item in value.items()}
    inner = value[mark]
    if mark == "$timedelta":
        return str(timedelta(*inner))
    if mark == "$bytes":
        return bytes.fromhex(inner)
    if mark == _DICT:
        return {str(without_marks(key)): without_marks(item) for key, item in inner}
    return without_marks(inner[1] if mark == _MODEL else inner)


def cast_rendered(value: Any, wanted: Any) -> Any:
    """Converts a rendered template to JSON of the type that the step declares; an invalid value is left unchanged.

    Args:
        value: the value of the template's expression.
        wanted: the declared type; None where it is not known.
    """
    if _is_text(wanted) and value is not None:
        return _as_text(value)
    try:
        given = as_json(value, "")  # as the step would receive it
    except ValueError:
        return value  # the step's spec rejects it by name
    adapter = None if wanted is None else _adapter(wanted, _config(wanted))
    if adapter is not None:
        for read in (adapter.validate_python, adapter.validate_json):  # text may be JSON, by the filter `tojson`
            try:
                return as_json(read(given), "")
            except (ValueError, TypeError):
                continue
    return given


def refusal(value: Any, wanted: Any) -> str:
    """Explains why a step rejects a rendered template for one of its parameters; empty if it accepts it.

    Args:
        value: the value of the template's expression.
        wanted: the declared type.
    """
    try:
        TypeAdapter(wanted, config=_config(wanted)).validate_python(cast_rendered(value, wanted))
    except ValidationError as error:
        return in_words(problems(error)[0])
    except UnicodeEncodeError as error:
        return in_unicode(error)
    return ""


def _adapter(wanted: Any, config: ConfigDict | None = None) -> TypeAdapter[Any] | None:
    """Returns a validator for a type; None if the type is unknown or not supported by pydantic."""
    if wanted is UNKNOWN:
        return None
    try:
        return TypeAdapter(wanted, config=config)
    except (PydanticUserError, TypeError, ValueError, AttributeError, RecursionError):
        return None


def _is_text(wanted: Any) -> bool:
    """Whether a type is text, with or without constraints."""
    return wanted is str or (typing.get_origin(wanted) is typing.Annotated and typing.get_args(wanted)[0] is str)


def _as_text(value: Any) -> str:
    if isinstance(value, Enum):
        return _as_text(value.value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")  # the step's spec rejects text that is not UTF-8
    return str(value)


def _config(wanted: Any) -> ConfigDict | None:
    """Returns a configuration by which numbers become text; models have their own."""
    return None if hasattr(wanted, "model_config") else ConfigDict(coerce_numbers_to_str=True)


def _coerced(adapter: TypeAdapter[Any], value: Any) -> Any:
    """Coerces a value to its type; an invalid one is left unchanged and marked so."""
    try:
        made = _marked(adapter.validate_python(value))
    except (ValueError, TypeError, _Unmarkable):
        return {_AS_GIVEN: value}
    return made


def _default(adapter: TypeAdapter[Any], value: Any) -> Any:
    """Coerces a default to its type; an invalid one is left unchanged."""
    try:
        return adapter.validate_python(value)
    except (ValueError, TypeError):
        return value


class _Unmarkable(Exception):
    """A value of a type that only its own code can compare."""


def _marked(value: Any) -> Any:
    """Converts a value to JSON in which the types of the value and all its parts are marked."""
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {_FLOAT: str(value)}
    if kind is list:
        return [_marked(item) for item in value]
    if kind is dict:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: _marked(item) for key, item in value.items()}
        return {_DICT: [[_marked(key), _marked(item)] for key, item in value.items()]}
    if kind in _COLLECTIONS:
        items = [_marked(item) for item in value]
        return {_COLLECTIONS[kind]: items if kind is tuple else sorted(items, key=json.dumps)}
    if kind in _TEXTS:
        return {f"${kind.__name__.lower()}": str(value)}
    if kind is bytes:
        return {"$bytes": value.hex()}
    if kind is timedelta:
        return {"$timedelta": [value.days, value.seconds, value.microseconds]}
    if isinstance(value, PurePath):
        return {f"${kind.__name__.lower()}": str(value)}
    if isinstance(value, BaseModel) and kind.__module__.startswith("kommuna.spec."):
        fields = {name: _marked(getattr(value, name)) for name in (*kind.model_fields, *(value.model_extra or {}))}
        return {_MODEL: [f"{kind.__module__}.{kind.__qualname__}", fields]}
    raise _Unmarkable(kind.__name__)

"""What a step's author says of its results: `@step(cacheable=False)`, `@step(expires="1d")`."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator

from kommuna.spec.base import Spec

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _check_duration(value: str) -> str:
    if not re.fullmatch(r"\d{1,6}[smhd]", value):
        raise ValueError(f"'{value}' is no duration: write it as 30m, 12h or 1d")
    return value


Duration = Annotated[str, AfterValidator(_check_duration)]


def duration(text: str) -> timedelta:
    """A duration as people write it.

    >>> duration("36h")
    datetime.timedelta(days=1, seconds=43200)
    """
    return timedelta(seconds=int(_check_duration(text)[:-1]) * _UNITS[text[-1]])


# Of the step's interpreter: sets of texts have the same order, and files the same encoding, in every run.
INTERPRETER = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"}

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "_kommuna_caching"


class Caching(Spec):
    """What a step's author knows of its results."""

    cacheable: bool = True
    expires: Duration | None = None


def step(*, cacheable: bool = True, expires: str | None = None) -> Callable[[F], F]:
    """Says of a step what no record of its run can tell; a plain function needs none.

    Args:
        cacheable: False of a step that does something outside: no run is given another's result.
        expires: how long a result may be given to other runs, `12h` or `1d`, whatever the step reads from outside.

    >>> @step(expires="1d")
    ... def rates() -> dict[str, float]: ...
    """
    caching = Caching.read({"cacheable": cacheable, "expires": expires}, where="@step")

    def mark(function: F) -> F:
        setattr(function, _MARK, caching)
        return function

    return mark


def caching_of(function: Callable[..., Any]) -> Caching:
    """What a step's author said of its results."""
    return getattr(function, _MARK, Caching())

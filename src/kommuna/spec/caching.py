"""What a step's author says of its results: `@step(cacheable=False)`, `@step(expires="1d")`."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, TypeVar, cast

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
TOLD_BELOW, UNCACHEABLE = "/proc/kommuna/called/", "uncacheable"  # where no file can be


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
        @functools.wraps(function)
        def telling(*arguments: Any, **options: Any) -> Any:
            _tell(caching)
            return function(*arguments, **options)

        setattr(telling, _MARK, caching)
        return cast("F", telling)

    return mark


def _tell(caching: Caching) -> None:
    """Tells whoever hears what this process opens, of a call that no signature shows: a helper, a hidden function."""
    for said in filter(None, ("" if caching.cacheable else UNCACHEABLE, caching.expires)):
        with contextlib.suppress(OSError):
            os.close(os.open(f"{TOLD_BELOW}{said}", os.O_RDONLY))


def caching_of(function: Callable[..., Any]) -> Caching:
    """What a step's author said of its results, as far as no decorator hides it."""
    return getattr(function, _MARK, Caching())

"""The decorator `@step`, by which a step's author limits caching: `cacheable=False`, `expires="1d"`."""

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
        raise ValueError(f"'{value}' is not a duration: write it as 30m, 12h or 1d")
    return value


Duration = Annotated[str, AfterValidator(_check_duration)]


def duration(text: str) -> timedelta:
    """Parses a duration such as 30m, 12h or 1d.

    >>> duration("36h")
    datetime.timedelta(days=1, seconds=43200)
    """
    return timedelta(seconds=int(_check_duration(text)[:-1]) * _UNITS[text[-1]])


# Environment of the step's interpreter: sets of strings have the same order and files the same encoding in every run.
INTERPRETER = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"}

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "_kommuna_caching"
# A call of a decorated function opens a path in this folder, which cannot exist: the supervisor sees the attempt.
CALL_MARKERS, UNCACHEABLE = "/proc/kommuna/called/", "uncacheable"


class Caching(Spec):
    """The caching limits that a step's author declares."""

    cacheable: bool = True
    expires: Duration | None = None


def step(*, cacheable: bool = True, expires: str | None = None) -> Callable[[F], F]:
    """Declares caching limits of a step that cannot be observed while it runs. Most steps need none.

    Args:
        cacheable: False for a step with side effects outside the platform: its result is never reused.
        expires: how long a result may be reused, such as `12h` or `1d`, whatever the step reads from outside.

    >>> @step(expires="1d")
    ... def rates() -> dict[str, float]: ...
    """
    caching = Caching.read({"cacheable": cacheable, "expires": expires}, where="@step")

    def mark(function: F) -> F:
        @functools.wraps(function)
        def announcing(*arguments: Any, **options: Any) -> Any:
            _announce(caching)
            return function(*arguments, **options)

        setattr(announcing, _MARK, caching)
        return cast("F", announcing)

    return mark


def _announce(caching: Caching) -> None:
    """Announces a call to the supervisor, which sees what this process opens.

    So a decorated function counts where the step's own function does not show it, for example as a helper.
    """
    for marker in filter(None, ("" if caching.cacheable else UNCACHEABLE, caching.expires)):
        with contextlib.suppress(OSError):
            os.close(os.open(f"{CALL_MARKERS}{marker}", os.O_RDONLY))


def caching_of(function: Callable[..., Any]) -> Caching:
    """Returns the declared caching limits of a function; the defaults where another decorator hides them."""
    return getattr(function, _MARK, Caching())

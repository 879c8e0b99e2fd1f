"""`wait_until`: looks again and again until something is so, or the time is over."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from kommuna.errors import PlatformFault

T = TypeVar("T")


def wait_until(
    what: str,
    true: Callable[[], T],
    *,
    seconds: float = 120.0,
    every: float = 0.5,
    late: Callable[[], Exception] | None = None,
) -> T:
    """Returns the first value of a call that is true.

    Args:
        what: it waits for, as a sentence.
        true: looks; what it raises ends the wait.
        seconds: longest wait; there is a last look when it is over.
        every: seconds between two looks.
        late: makes the error, if not a `PlatformFault` that names `what`.

    Raises:
        PlatformFault: the time is over.
    """
    deadline = time.monotonic() + seconds
    while True:
        is_last = time.monotonic() > deadline
        if value := true():
            return value
        if is_last:
            raise late() if late is not None else PlatformFault(f"after {seconds:g} seconds still not: {what}")
        time.sleep(every)

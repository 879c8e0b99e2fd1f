"""`wait_until`: polls until a condition is true, or the time is up."""

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
    """Polls a condition and returns its first true value.

    Args:
        what: the condition as a sentence, for the error.
        true: evaluates the condition. An exception ends the wait.
        seconds: the longest wait. The condition is evaluated once more when it is over.
        every: seconds between two evaluations.
        late: makes the error for a timeout; by default a `PlatformFault` that names `what`.

    Raises:
        PlatformFault: the time is up.
    """
    deadline = time.monotonic() + seconds
    while True:
        is_last = time.monotonic() > deadline
        if value := true():
            return value
        if is_last:
            raise (
                late()
                if late is not None
                else PlatformFault(f"timed out after {seconds:g} seconds, waiting until {what}")
            )
        time.sleep(every)

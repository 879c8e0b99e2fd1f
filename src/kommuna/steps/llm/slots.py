"""`Slots`: how many requests are in flight at one time, fewer after the server was asked for too much."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Slots:
    """Limits concurrent requests. The limit adapts as TCP's window does (additive increase, multiplicative decrease).

    Args:
        most: the largest limit, and the first one.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._taken = 0
        self._halved = 0.0
        self._freed = asyncio.Condition()

    @property
    def limit(self) -> int:
        """The number of requests that may be in flight now."""
        return int(self._limit)

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Waits for a slot and holds it."""
        async with self._freed:
            await self._freed.wait_for(lambda: self._taken < self.limit)
            self._taken += 1
        try:
            yield
        finally:
            async with self._freed:
                self._taken -= 1
                self._freed.notify_all()

    def answered(self) -> None:
        """Raises the limit by one after as many answers as it allows at one time."""
        self._limit = min(self._most, self._limit + 1 / self._limit)

    def refused(self, sent: float) -> None:
        """Halves the limit, since the server answered 429; once for all requests that were in flight then.

        Args:
            sent: when the request was sent, in seconds of `time.monotonic`.
        """
        if sent > self._halved:
            self._halved = time.monotonic()
            self._limit = max(1.0, self._limit / 2)

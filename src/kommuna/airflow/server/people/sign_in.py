"""Limits failed sign-ins by client address and by login, in the memory of one server process."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

WINDOW_SECONDS = 60.0
PER_LOGIN_AND_ADDRESS = 10  # failures in the window
PER_ADDRESS = 60  # one address may be a proxy of many people
PER_LOGIN = 30  # from all addresses together
_MAX_KEYS = 10_000


class SignIns:
    """Counts failed sign-ins.

    Args:
        clock: seconds, for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[tuple[str, str], list[float]] = OrderedDict()

    def wait(self, address: str, login: str) -> int:
        """Returns for how many seconds no sign-in is tried; 0 if it may be tried now.

        Args:
            address: the client's address.
            login: the login that is tried.
        """
        now = self._clock()
        longest = 0.0
        for key, most in _limits(address, login):
            recent = [at for at in self._failures.get(key, ()) if now - at < WINDOW_SECONDS]
            if len(recent) >= most:
                longest = max(longest, recent[-most] + WINDOW_SECONDS - now)
        return int(longest) + 1 if longest else 0

    def failed(self, address: str, login: str) -> None:
        """Counts a failure. The keys that failed longest ago are forgotten first."""
        now = self._clock()
        for key, most in _limits(address, login):
            self._failures[key] = [*self._failures.pop(key, [])[-most + 1 :], now]
        while len(self._failures) > _MAX_KEYS:
            self._failures.popitem(last=False)


def _limits(address: str, login: str) -> tuple[tuple[tuple[str, str], int], ...]:
    return (((address, login), PER_LOGIN_AND_ADDRESS), ((address, ""), PER_ADDRESS), (("", login), PER_LOGIN))

"""How many requests are in flight at one time."""

from __future__ import annotations

import asyncio
import time

from kommuna.steps.llm.slots import Slots


def test_the_limit_is_halved_once_for_all_requests_in_flight_and_grows_slowly() -> None:
    slots = Slots(16)
    sent = time.monotonic()
    for _ in range(16):
        slots.refused(sent)
    assert slots.limit == 8
    for _ in range(4):
        slots.answered()
    assert slots.limit == 8
    for _ in range(200):
        slots.answered()
    assert slots.limit == 16
    for _ in range(10):
        slots.refused(time.monotonic() + 1)
    assert slots.limit == 1


def test_no_more_than_the_limit_are_in_flight() -> None:
    slots, now, most = Slots(3), 0, 0

    async def one() -> None:
        nonlocal now, most
        async with slots.taken():
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.001)
            now -= 1

    async def all_of_them() -> None:
        await asyncio.gather(*(one() for _ in range(20)))

    asyncio.run(all_of_them())
    assert most == 3

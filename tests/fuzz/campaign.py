"""Random tests: a short, reproducible round with the unit tests, and `make fuzz` for FUZZ_MINUTES."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kommuna.errors import EXIT_MISTAKE, KommunaError

MINUTES = float(os.environ.get("FUZZ_MINUTES") or 0)  # of all random tests together; 0: the short round
_outcomes: Counter[str] = Counter()  # of the test that runs
ROUND = 300  # examples between two looks at the clock


def fuzzed(*, examples: int, **strategies: st.SearchStrategy[Any]) -> Callable[..., Callable[..., None]]:
    """Decorates a property test that takes a folder and the drawn values.

    Args:
        examples: of the short round.
    """

    def decorate(check: Callable[..., None]) -> Callable[..., None]:
        def test(
            tmp_path: Path, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
        ) -> None:
            _outcomes.clear()

            def counted(**drawn: Any) -> None:
                _outcomes["tried"] += 1
                check(tmp_path, **drawn)

            chosen = settings(
                max_examples=ROUND if MINUTES else examples,
                derandomize=not MINUTES,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                print_blob=bool(MINUTES),
            )
            run = chosen(given(**strategies)(counted))
            seconds = 60 * MINUTES / sum("campaign" in item.keywords for item in request.session.items)
            end = time.monotonic() + seconds
            try:
                run()
                while time.monotonic() < end:
                    run()
            finally:
                record_property("outcomes", dict(_outcomes))

        test.__name__, test.__doc__ = check.__name__, check.__doc__
        return pytest.mark.campaign(pytest.mark.timeout(0 if MINUTES else 300)(test))

    return decorate


def rarely(draw: st.DrawFn, one_in: int) -> bool:
    """Draws True in about one of so many cases."""
    return draw(st.sampled_from([False] * (one_in - 1) + [True]))


def attempt(work: Callable[[], Any]) -> tuple[Any, KommunaError | None]:
    """Returns the result of some work, or the mistake for which it is refused; raises any other error."""
    try:
        return work(), None
    except KommunaError as error:
        refusal = error
    count_refusal()
    assert refusal.exit_code == EXIT_MISTAKE, f"{type(refusal).__name__} ends in {refusal.exit_code}"
    assert refusal.what.strip()
    str(refusal).encode()  # people see it: no half of a character
    return None, refusal


def count_refusal() -> None:
    """Records that the current example was refused."""
    _outcomes["refused"] += 1

"""Several tags for one message: labels and taggers on NLU++ beside counted votes and logistic regression on them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.benchmarks._weak_data import DATA


def results() -> Iterator[dict[str, Any]]:
    """Yields figures with 100 and 300 dev rows."""
    if not (DATA / "nlupp_banking").is_dir():
        return
    from tests.benchmarks._multi_label import beside

    for dev_rows in (100, 300):
        yield from beside(dev_rows)

"""The ledger of the attacks, written when the session ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.e2e.attacks.ledger import Ledger


@pytest.fixture(scope="session")
def ledger() -> Iterator[Ledger]:
    made = Ledger()
    yield made
    made.write()

"""A store in a temporary folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from kommuna.spec.step import StoreAddress
from kommuna.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(StoreAddress(url=(tmp_path / "store").as_uri()), "support")

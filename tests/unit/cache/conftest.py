"""A rig that runs steps, one process for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.rigs.cache import CacheRig


@pytest.fixture(scope="module")
def one_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CacheRig]:
    folder = tmp_path_factory.mktemp("cache") / "rig"
    folder.mkdir()
    made = CacheRig(folder)
    yield made
    made.close()


@pytest.fixture
def rig(one_rig: CacheRig) -> CacheRig:
    """An empty bundle and store."""
    one_rig.clear()
    return one_rig

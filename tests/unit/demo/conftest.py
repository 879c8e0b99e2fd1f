"""One set of demo files for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from kommuna.demo.write import DemoData, write_demo_data

DAGS = Path(__file__).resolve().parents[3] / "dags"


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoData:
    return write_demo_data(tmp_path_factory.mktemp("demo"), messages=20_000, seed=7)


@pytest.fixture(scope="session")
def truth(demo: DemoData) -> pl.DataFrame:
    return pl.read_parquet(demo.folder / "truth" / "truth.parquet")


@pytest.fixture(scope="session")
def dags() -> Path:
    """The example teams' bundles."""
    return DAGS

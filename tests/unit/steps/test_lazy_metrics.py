"""A step's table and its metrics are computed in one pass over the inputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from kommuna.runtime.codecs import write_all
from kommuna.steps.etl.asof import asof_join
from kommuna.steps.etl.mask import mask_pii
from kommuna.steps.etl.query import query
from kommuna.steps.lazy_metrics import LazyMetrics

LEFT = pl.DataFrame({"id": [1, 2, 3, 4], "at": [10, None, 30, 5], "x": ["a", "b", "c", "d"]})
RIGHT = pl.DataFrame({"at": [8, 20], "y": [1.0, 2.0]})


STEPS: dict[str, Callable[[pl.LazyFrame, pl.LazyFrame], Any]] = {
    "asof_join": lambda left, right: asof_join(left, right, on="at"),
    "query": lambda left, right: query(
        {"l": left, "r": right}, sql="SELECT * FROM l LEFT JOIN r USING (at) WHERE id > 1"
    ),
    "mask_pii": lambda left, right: mask_pii(left, text="x"),
}


def scans(plan: str) -> int:
    return plan.count("Parquet SCAN")


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("asof_join", 3),
        ("query", 2),
        ("mask_pii", 1),
    ],  # the join reads its left side for the rows that can match, and for the others
)
def test_the_metrics_add_no_scan_of_the_inputs(
    step: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = []
    for name, table in (("left", LEFT), ("right", RIGHT)):
        table.write_parquet(tmp_path / f"{name}.parquet")
        inputs.append(pl.scan_parquet(tmp_path / f"{name}.parquet"))
    collected: list[str] = []

    def collect_all(plans: list[pl.LazyFrame], **options: Any) -> list[pl.DataFrame]:
        collected.append(pl.explain_all(plans))
        return collect(plans, **options)

    collect = pl.collect_all
    monkeypatch.setattr(pl, "collect_all", collect_all)
    done = STEPS[step](*inputs)
    assert collected == []
    written = write_all({"table": done.table}, tmp_path, done.metrics)
    assert done.metrics.get("rows", LEFT.height) == written["table"].rows
    assert [scans(plan) for plan in collected] == [expected]


def test_known_metrics_come_first() -> None:
    metrics = LazyMetrics(LEFT.lazy().select(pl.len().alias("rows"))).with_known({"bytes": 7.0})
    assert list(metrics) == ["bytes", "rows"]
    assert len(metrics) == 2
    assert metrics == {"bytes": 7.0, "rows": 4.0}


def test_a_first_look_computes_the_metrics() -> None:
    metrics = LazyMetrics(LEFT.lazy().select(pl.len().alias("rows"), pl.col("at").count().alias("known")))
    assert metrics == {"rows": 4.0, "known": 3.0}
    assert list(metrics) == ["rows", "known"]
    assert repr(metrics) == "{'rows': 4.0, 'known': 3.0}"

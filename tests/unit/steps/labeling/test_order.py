"""Votes do not depend on partitions, row-group sizes, batch sizes, the order of rows, or the number of threads."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kommuna.spec.rules import RuleSet
from kommuna.steps.labeling.apply import apply_rules

RULES = {
    "tags": ["card", "loan"],
    "rules": [
        {"name": "word", "tag": "card", "any": ["card", "ещё"]},
        {"name": "stem", "tag": "card", "any": ["потерял карту"], "stem": "russian"},
        {"name": "pattern", "tag": "loan", "regex": r"loans?\b"},
        {"name": "ahead", "tag": "card", "regex": r"my(?= card)"},
        {"name": "big", "tag": "loan", "sql": "amount > 1000"},
        {"name": "no_loan", "tag": "loan", "any": ["hello"], "against": True},
    ],
}
WORDS = ["my card", "a loan", "loans", "hello", "Ещё", "", "потеряла карты", "№ 5 — card"]
ROWS = 3000

# Runs in its own process, since Polars sets its number of threads once; prints a digest of the votes per partition.
SCRIPT = """
import hashlib, json, sys
import polars as pl
from kommuna.spec.rules import RuleSet
from kommuna.steps.labeling.apply import apply_rules
assert pl.thread_pool_size() == int(sys.argv[2])
rules = RuleSet.read(json.loads(sys.argv[1]), where="test")
for folder in sys.argv[3:]:
    for batch in (7, 500, 100_000):
        pl.Config.set_streaming_chunk_size(batch)
        votes = apply_rules(pl.scan_parquet(folder), rules).votes.collect()
        text = votes.write_csv()
        print(hashlib.sha256(text.encode()).hexdigest(), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    """Messages whose votes change from row to row."""
    texts = [WORDS[i % 8] + str(i % 11) * (i % 2) + " card" * (i % 7 == 0) for i in range(ROWS)]
    return pl.DataFrame({"id": range(ROWS), "text": texts}).with_columns(amount=pl.col("id") % 1500)


@pytest.fixture(scope="module")
def expected(table: pl.DataFrame) -> pl.DataFrame:
    """The votes of single rows, whose order cannot change."""
    rules = RuleSet.read(RULES, where="test")
    some = [apply_rules(table.slice(i, 1).lazy(), rules).votes.collect() for i in range(0, ROWS, 37)]
    return pl.concat(some)


def write(table: pl.DataFrame, folder: Path, parts: int, row_group: int) -> None:
    size = -(-table.height // parts)
    for part in range(parts):
        table.slice(part * size, size).write_parquet(folder / f"{part}.parquet", row_group_size=row_group)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(
    row_group=st.integers(1, ROWS), parts=st.integers(1, 5), batch=st.integers(1, 2 * ROWS), shuffle=st.integers(0, 9)
)
def test_votes_are_the_same_for_any_partition_order_and_batch_size(
    tmp_path_factory: Any, table: pl.DataFrame, expected: pl.DataFrame, row_group: int, parts: int, batch: int,
    shuffle: int,
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("parts")
    mixed = table.sample(fraction=1.0, shuffle=True, seed=shuffle)
    write(mixed, folder, parts, row_group)
    with pl.Config() as config:
        config.set_streaming_chunk_size(batch)
        votes = apply_rules(pl.scan_parquet(folder), RuleSet.read(RULES, where="test")).votes.collect()
    assert votes["id"].to_list() == mixed["id"].to_list()
    assert votes.join(expected, on="id", how="semi").sort("id").equals(expected)


@pytest.mark.slow
def test_votes_are_the_same_with_one_thread_and_with_two(tmp_path: Path, table: pl.DataFrame) -> None:
    folders = []
    for parts, row_group in ((1, ROWS), (1, 64), (4, 500)):
        folder = tmp_path / f"{parts}-{row_group}"
        folder.mkdir()
        write(table, folder, parts, row_group)
        folders.append(str(folder))
    digests = set()
    for threads in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, json.dumps(RULES), threads, *folders],
            env=os.environ | {"POLARS_MAX_THREADS": threads},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        lines = [line for line in done.stderr.splitlines() if len(line) == 64]
        assert len(lines) == 9
        digests |= set(lines)
    assert len(digests) == 1


def test_votes_of_literals_keep_the_order_of_the_rows(tmp_path: Path) -> None:
    """Without the key in the plan, Polars 2.1 may return such columns in another order."""
    table = pl.DataFrame({"id": range(50_000)}).with_columns(text=pl.lit("x"), amount=pl.col("id"))
    table.write_parquet(tmp_path / "t.parquet", row_group_size=1000)
    rules = RuleSet.read({"tags": ["a"], "rules": [{"name": "r", "tag": "a", "sql": "amount < 10"}]}, where="test")
    for _ in range(10):
        votes = apply_rules(pl.scan_parquet(tmp_path / "t.parquet"), rules).votes.collect()
        assert votes["id"].to_list() == table["id"].to_list()
        assert votes["r"].is_not_null().arg_true().to_list() == list(range(10))

"""Writes the demo data of the example teams: messages for `support`, transactions for `fraud`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import polars as pl
import structlog

from kommuna.demo.files import write_together
from kommuna.demo.messages import arrival_times, message_blocks
from kommuna.demo.phrases import Ints
from kommuna.demo.transactions import transaction_tables
from kommuna.errors import SpecError

log = structlog.get_logger()

Progress = Callable[[int, int], None]

DEV_ROWS, GOLD_ROWS = 1_000, 2_000
_UNLABELED = ["id", "created_at", "channel", "text"]
_MESSAGE = [*_UNLABELED, "operator", "operator_tag"]
_LABELED = [*_MESSAGE, "tag", "tags"]


class DemoData(NamedTuple):
    """The written files: `rows` has the number of rows of each file, by its path in `folder`."""

    folder: Path
    rows: dict[str, int]


def write_demo_data(
    folder: Path,
    *,
    messages: int = 20_000,
    seed: int = 7,
    transactions: int | None = None,
    dev_rows: int = DEV_ROWS,
    gold_rows: int = GOLD_ROWS,
    on_progress: Progress | None = None,
) -> DemoData:
    """Writes the data of both example teams into one folder; all files appear together, at the end.

    Args:
        folder: the target; created if it is missing.
        messages: rows of `messages.csv`.
        seed: the same seed gives the same bytes.
        transactions: rows of `transactions.csv`; as many as `messages` if None.
        dev_rows: each team's labeled rows to write and weight rules with.
        gold_rows: each team's labeled rows to evaluate on.
        on_progress: called with the number of rows written and the total.

    Raises:
        SpecError: a number of rows is not positive, or `folder` cannot be written to.
    """
    began = time.perf_counter()
    count = messages if transactions is None else transactions
    counts = (("messages", messages), ("transactions", count), ("dev_rows", dev_rows), ("gold_rows", gold_rows))
    for name, value in counts:
        if value < 1:
            raise SpecError(f"{name} is {value}, but must be at least 1", fix=f"give a larger {name}")
    all_rows = sum(max(rows // 5, 1) + rows + dev_rows + gold_rows for rows in (messages, count))
    done = 0

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        if on_progress is not None:
            on_progress(done, all_rows)

    with write_together(folder) as draft:
        (draft / "truth").mkdir()
        rows = _write_messages(draft, messages, seed, (dev_rows, gold_rows), advance)
        rows |= _write_transactions(draft, count, seed, (dev_rows, gold_rows), advance)
    log.info("demo.written", folder=str(folder), rows=sum(rows.values()), seconds=round(time.perf_counter() - began, 2))
    return DemoData(folder, rows)


def _write_messages(
    folder: Path, messages: int, seed: int, labeled: tuple[int, int], advance: Callable[[int], None]
) -> dict[str, int]:
    """Writes the support team's files, block by block."""
    month = messages + sum(labeled)
    role = _roles(np.random.default_rng([seed, 3]), month, labeled)
    times = arrival_times(month, seed=seed, stream=0, start="2026-09-01", days=30)
    kept: dict[str, list[pl.DataFrame]] = {"dev.csv": [], "gold.csv": []}
    truth: list[pl.DataFrame] = []
    with (folder / "messages.csv").open("wb") as file:
        start = 0
        for block in message_blocks(month, seed=seed, stream=0, first_id=1):
            dated = block.with_columns(
                times.slice(start, block.height), role=pl.Series(role[start : start + block.height])
            )
            _append(file, dated.filter(pl.col("role") == 0).select(_MESSAGE), header=start == 0)
            for number, name in enumerate(kept, start=1):
                kept[name].append(dated.filter(pl.col("role") == number))
            truth.append(block.select("id", "tag", "tags", "pii"))
            start += block.height
            advance(block.height)
    for name, blocks in kept.items():
        pl.concat(blocks).with_columns(pl.col("tags").list.join("|")).select(_LABELED).write_csv(folder / name)
    new = max(messages // 5, 1)
    times = arrival_times(new, seed=seed, stream=1, start="2026-10-01", days=6)
    with (folder / "new_messages.csv").open("wb") as file:
        start = 0
        for block in message_blocks(new, seed=seed, stream=1, first_id=month + 1):
            dated = block.with_columns(times.slice(start, block.height))
            _append(file, dated.select(_UNLABELED), header=start == 0)
            truth.append(block.select("id", "tag", "tags", "pii"))
            start += block.height
            advance(block.height)
    pl.concat(truth).write_parquet(folder / "truth" / "truth.parquet")
    return {
        "messages.csv": messages,
        "dev.csv": labeled[0],
        "gold.csv": labeled[1],
        "new_messages.csv": new,
        "truth/truth.parquet": month + new,
    }


def _write_transactions(
    folder: Path, count: int, seed: int, labeled: tuple[int, int], advance: Callable[[int], None]
) -> dict[str, int]:
    """Writes the fraud team's files; dev and gold have the same share of fraud as the month."""
    month, new = count + sum(labeled), max(count // 5, 1)
    made = transaction_tables(month, seed=seed, new_rows=new)
    table, later = made.transactions.head(month), made.transactions.tail(new)
    role = _stratified_roles(np.random.default_rng([seed, 4]), table["tag"], labeled)
    table = table.with_columns(role=pl.Series(role))
    table.filter(pl.col("role") == 0).drop("role", "tag").write_csv(folder / "transactions.csv")
    table.filter(pl.col("role") == 1).drop("role").write_csv(folder / "tx_dev.csv")
    table.filter(pl.col("role") == 2).drop("role").write_csv(folder / "tx_gold.csv")
    later.drop("tag").write_csv(folder / "new_transactions.csv")
    made.events.write_csv(folder / "events.csv")
    made.transactions.select("id", "tag").write_parquet(folder / "truth" / "tx_truth.parquet")
    advance(month + new)
    return {
        "transactions.csv": count,
        "tx_dev.csv": labeled[0],
        "tx_gold.csv": labeled[1],
        "new_transactions.csv": new,
        "events.csv": made.events.height,
        "truth/tx_truth.parquet": month + new,
    }


def _roles(rng: np.random.Generator, rows: int, labeled: tuple[int, int]) -> Ints:
    """Draws the role of each row: 0 for unlabeled, 1 for dev, 2 for gold."""
    role = np.zeros(rows, np.int64)
    chosen = rng.permutation(rows)[: sum(labeled)]
    role[chosen[: labeled[0]]] = 1
    role[chosen[labeled[0] :]] = 2
    return role


def _stratified_roles(rng: np.random.Generator, tags: pl.Series, labeled: tuple[int, int]) -> Ints:
    """Draws roles like `_roles`, with the same share of each tag in dev and gold as in all rows."""
    role = np.zeros(len(tags), np.int64)
    fraud = (tags == "fraud").to_numpy()
    taken = {True: 0, False: 0}
    shuffled = {which: rng.permutation(np.flatnonzero(fraud == which)) for which in (True, False)}
    for number, size in enumerate(labeled, start=1):
        frauds = round(size * float(fraud.mean()))
        for which, wanted in ((True, frauds), (False, size - frauds)):
            role[shuffled[which][taken[which] : taken[which] + wanted]] = number
            taken[which] += wanted
    return role


def _append(file: IO[bytes], rows: pl.DataFrame, *, header: bool) -> None:
    rows.write_csv(file, include_header=header)

"""Steps that inspect their pod, wait, or use too much memory."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

import polars as pl


class Seen(NamedTuple):
    """The secrets that a worker pod contains."""

    report: dict
    metrics: dict[str, float]


def look(*, words: list[str]) -> Seen:
    """Returns variables of this process and the task's with certain words in name or value, and mounted tokens."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                pairs = (process / "environ").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            found += [pair for pair in pairs if any(word in pair for word in words)]
    token = Path("/var/run/secrets/kubernetes.io/serviceaccount/token").exists()
    return Seen(
        {"variables": sorted(set(found)), "host": os.uname().nodename, "uid": os.getuid()},
        {"found": float(len(found)), "token": float(token)},
    )


def wait(*, seconds: float) -> pl.DataFrame:
    """Returns one row after some time."""
    time.sleep(seconds)
    return pl.DataFrame({"seconds": [seconds]})


def count(table: pl.LazyFrame) -> pl.DataFrame:
    """Counts the table's rows."""
    return table.select(pl.len().alias("rows")).collect()


def hoard() -> pl.DataFrame:
    """Allocates memory without end."""
    held = []
    while True:
        held.append(bytearray(b"x" * (32 << 20)))
        time.sleep(0.02)

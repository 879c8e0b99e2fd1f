"""Scans a CSV file as text columns, named by its header as RFC 4180 reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from kommuna.spec.table import is_pattern
from kommuna.steps.columns import OWN


def scan_texts(source: Path, header: Sequence[str]) -> pl.LazyFrame:
    """Scans a CSV file lazily, every value as text; an unquoted empty field is null.

    Polars does not unescape doubled quotes in names, so the names are given here.

    Args:
        source: a local file.
        header: its column names; duplicates, and names that are patterns to Polars, are replaced by internal names.
    """
    often = Counter(header)
    names = [name if often[name] == 1 and not is_pattern(name) else f"{OWN}{i}" for i, name in enumerate(header)]
    return pl.scan_csv(source, infer_schema=False, glob=False, with_column_names=lambda _: names)

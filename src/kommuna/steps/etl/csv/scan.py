"""A CSV file as a table of texts, under the names that its header has by RFC 4180."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from kommuna.spec.table import is_pattern
from kommuna.steps.columns import OWN


def scan_texts(source: Path, header: Sequence[str]) -> pl.LazyFrame:
    """Scans a CSV file lazily, every value as text; an unquoted empty field is null.

    Polars leaves doubled quotes in a name as they are, so the names are not its own.

    Args:
        source: a local file.
        header: its column names; a name that stands twice, or is a pattern to Polars, becomes one that no file has.
    """
    often = Counter(header)
    names = [name if often[name] == 1 and not is_pattern(name) else f"{OWN}{i}" for i, name in enumerate(header)]
    return pl.scan_csv(source, infer_schema=False, glob=False, with_column_names=lambda _: names)

"""Reads the tables of commands from files: as strictly as steps do, with a check of the columns that are needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


def scanned(path: Path, key: str, *columns: str) -> pl.LazyFrame:
    """Reads a table by its file's extension. Keys are not converted: 7 and 007 differ.

    Raises:
        DataError: the file is missing, has an unknown extension, or cannot be read.
        MissingColumn: it lacks a column.
    """
    from kommuna.steps.columns import require_columns
    from kommuna.steps.frames import scan_file

    table = scan_file(path, keys=(key,))
    require_columns(table, [key, *columns], what=path.name)
    return table


def scanned_labels(path: Path, key: str, *columns: str, label: str, multi_label: bool) -> pl.LazyFrame:
    """Reads a table of labeled rows. Where rows may have several tags, `tags` may replace the default label `tag`.

    Args:
        path: a CSV, NDJSON or Parquet file.
        key: the key column.
        *columns: further columns that it must have.
        label: the column with the tags.
        multi_label: whether rows may have several tags.
    """
    from kommuna.steps.columns import require_columns
    from kommuna.steps.labeled_rows import label_column

    table = scanned(path, key, *columns)
    require_columns(table, [label_column(table, label, multi_label=multi_label)], what=path.name)
    return table


def with_one_key_type(tables: dict[str, pl.LazyFrame], key: str) -> dict[str, pl.LazyFrame]:
    """Casts the keys of all tables to text if their types differ."""
    import polars as pl

    if len({table.collect_schema()[key] for table in tables.values()}) < 2:
        return tables
    return {name: table.with_columns(pl.col(key).cast(pl.String)) for name, table in tables.items()}

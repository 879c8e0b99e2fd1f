"""Tables that commands read from files: as strictly as steps read them, with the columns that the command needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


def scanned(path: Path, key: str, *columns: str) -> pl.LazyFrame:
    """A table by its file's ending; 7 and 007 are two keys.

    Raises:
        DataError: the file is missing, of another kind, or cannot be read.
        MissingColumn: it lacks a column.
    """
    from kommuna.steps.columns import require_columns
    from kommuna.steps.frames import scan_file

    table = scan_file(path, keys=(key,))
    require_columns(table, [key, *columns], what=path.name)
    return table


def scanned_labels(path: Path, key: str, *columns: str, label: str, several_tags: bool) -> pl.LazyFrame:
    """A table of labeled rows; `tags` stands in for the default label `tag` where rows may have several."""
    from kommuna.steps.columns import require_columns
    from kommuna.steps.labeled_rows import label_column

    table = scanned(path, key, *columns)
    require_columns(table, [label_column(table, label, several_tags=several_tags)], what=path.name)
    return table


def with_one_key_type(tables: dict[str, pl.LazyFrame], key: str) -> dict[str, pl.LazyFrame]:
    """Tables whose keys are texts, where they are texts in one and numbers in another."""
    import polars as pl

    if len({table.collect_schema()[key] for table in tables.values()}) < 2:
        return tables
    return {name: table.with_columns(pl.col(key).cast(pl.String)) for name, table in tables.items()}

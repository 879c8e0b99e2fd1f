"""Step: reads CSV, NDJSON and Parquet files with a declared schema."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import polars as pl

from kommuna.spec.table import TableSchema
from kommuna.steps.etl.formats import check_file, format_of
from kommuna.steps.etl.scan import read_checked
from kommuna.steps.frames import takes_frames

Format = Literal["auto", "csv", "ndjson", "parquet"]


class Read(NamedTuple):
    """The declared columns of a file, in the declared order."""

    table: pl.LazyFrame
    metrics: dict[str, float]


@takes_frames
def read_table(source: Path, *, table_schema: TableSchema, format: Format = "auto") -> Read:
    """Scans a file lazily, after one streaming pass that checks every value against its declared type.

    Columns that are not declared are left out. In CSV, an unquoted empty field is null, blank lines are skipped, rows
    with only commas are left out and counted, and `List(String)` is written `a|b|c`. The number of rows read is
    compared with the number of rows in the file.

    Args:
        source: a local file.
        table_schema: the columns and their types.
        format: `auto` detects it by the file's name, then by its first bytes.

    Returns:
        The table, and the metrics `rows`, `bytes` (of the file) and `blank_rows` (rows with only commas).

    Raises:
        MissingColumn: a declared column is not in the file.
        SchemaDrift: a value is not of its column's type, is NaN or infinite without being declared so, or is null in a
            required column; names the first such row (1 is the first row of data).
        DataError: the file is missing, empty, in another format, not UTF-8 or truncated, or has a misplaced quote, a
            row of another width or a second header.
    """
    source = Path(source)
    check_file(source)
    return Read(*read_checked(source, table_schema, format_of(source) if format == "auto" else format))

"""Step: reads, cleans and masks messages from a raw file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import polars as pl

from kommuna.errors import SchemaDrift
from kommuna.spec.choices import Count, Region
from kommuna.spec.table import TableSchema
from kommuna.steps.columns import require_columns
from kommuna.steps.etl.clean import MAX_CHARS, clean
from kommuna.steps.etl.mask import mask_pii
from kommuna.steps.etl.preparation import TextPreparation
from kommuna.steps.etl.read import Format, read_table
from kommuna.steps.frames import takes_frames

CREATED_AT = "created_at"


class Prepared(NamedTuple):
    """Clean, masked messages in the order of the file, and how other texts get the same form."""

    table: pl.LazyFrame
    preparation: TextPreparation
    metrics: Mapping[str, float]


@takes_frames
def prepare_messages(
    source: Path,
    *,
    table_schema: TableSchema,
    key: str = "id",
    text: str = "text",
    names: Sequence[str] = (),
    region: Region = "RU",
    format: Format = "auto",
    since: date | None = None,
    max_chars: Count = MAX_CHARS,
) -> Prepared:
    """Reads, cleans and masks one file: `read_table`, `clean` and `mask_pii` in one step.

    Args:
        source: CSV, NDJSON or Parquet.
        table_schema: its declared columns.
        key: name of the key column.
        text: the column with the message.
        names: people's names to mask.
        region: country of phone numbers without a country code, two letters.
        format: the file's format; `auto` detects it by the name and first bytes.
        since: keep messages whose `created_at` is on or after this day.
        max_chars: longer texts are cut to this number of characters.

    Returns:
        table: the messages.
        preparation: cleans and masks other texts in the same way; a registered model needs it to take raw texts.
        metrics: those of the three steps: `rows_read`, `bytes`, `blank_rows`, then those of `clean` (`rows_in`, `rows`,
            …) and of `mask_pii`.

    Raises:
        DataError: as the three steps.
        MissingColumn: `since` is given, and there is no column `created_at`.
    """
    read = read_table(source, table_schema=table_schema, format=format)
    table = read.table if since is None else _since(read.table, since, where=source.name)
    cleaned = clean(table, key=key, text=text, max_chars=max_chars)
    masked = mask_pii(cleaned.table, text=text, names=names, region=region)
    own = {"rows_read": read.metrics["rows"], "bytes": read.metrics["bytes"], "blank_rows": read.metrics["blank_rows"]}
    preparation = TextPreparation(names=tuple(names), region=region, max_chars=max_chars)
    return Prepared(masked.table, preparation, masked.metrics.with_known({**own, **cleaned.metrics}))


def _since(table: pl.LazyFrame, day: date, *, where: str) -> pl.LazyFrame:
    fix = f"since={day} needs the time of each message: declare {CREATED_AT} as Datetime"
    kind = require_columns(table, [CREATED_AT], what=where, fix=fix)[CREATED_AT]
    if not isinstance(kind, pl.Date | pl.Datetime):
        raise SchemaDrift(
            f"column '{CREATED_AT}': expected Datetime, found {kind}",
            where=where,
            fix=fix,
        )
    return table.filter(pl.col(CREATED_AT).dt.date() >= day)

"""Step: masks personal data in messages: phones, cards, accounts, taxpayer numbers, e-mails, names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from kommuna.errors import SpecError
from kommuna.spec.choices import Region, known_region
from kommuna.steps.columns import require_columns, require_text, unused
from kommuna.steps.etl.pii.masker import KINDS, Masker
from kommuna.steps.frames import takes_frames
from kommuna.steps.lazy_metrics import LazyMetrics


class Masked(NamedTuple):
    """Messages with `[PHONE]`, `[CARD]`, … in place of personal data."""

    table: pl.LazyFrame
    metrics: LazyMetrics


@takes_frames
def mask_pii(table: pl.LazyFrame, *, text: str = "text", names: Sequence[str] = (), region: Region = "RU") -> Masked:
    """Masks personal data; a number is masked only if its check digits or numbering plan are valid.

    Args:
        table: one row per message, cleaned.
        text: the column with the message.
        names: people's names, matched as whole words in the normal form of a text (docs/rules.md).
        region: country of phone numbers without a country code, two letters.

    Returns:
        The table in the same order, and the metrics `masked_phone`, `masked_card`, `masked_iban`, `masked_inn`,
        `masked_snils`, `masked_email`, `masked_name` (occurrences), `masked_rows`.

    Raises:
        MissingColumn: there is no such column.
        SchemaDrift: it is not a text column.
        SpecError: the region is unknown.
    """
    masker = Masker(names, _known_region(region))
    schema = require_columns(table, [text], what="table")
    if schema[text] != pl.Null:  # no text at all
        require_text(table, text, what="table")
    masked = unused(schema, "#masked")
    fields = {"text": pl.String(), **{kind: pl.UInt32() for kind in KINDS}}

    def mask(texts: pl.Series) -> pl.Series:
        return masker.mask_column(texts.cast(pl.String)).to_struct(masked)

    column = pl.col(text).map_batches(mask, return_dtype=pl.Struct(fields), is_elementwise=True)
    done = table.with_columns(column.alias(masked))
    counts = {f"masked_{kind.lower()}": pl.col(masked).struct.field(kind) for kind in KINDS}
    metrics = done.select(
        *(count.sum().alias(name) for name, count in counts.items()),
        pl.any_horizontal(count > 0 for count in counts.values()).sum().alias("masked_rows"),
    )
    new = pl.col(masked).struct.field("text").cast(schema[text]).alias(text)
    return Masked(done.with_columns(new).drop(masked), LazyMetrics(metrics))


def _known_region(region: str) -> str:
    try:
        return known_region(region)
    except ValueError as error:
        what, _, fix = str(error).partition("; ")
        raise SpecError(what, fix=fix) from None

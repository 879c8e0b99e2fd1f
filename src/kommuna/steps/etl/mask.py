"""Step: masks personal data in messages: phones, cards, accounts, taxpayer numbers, e-mails, names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import polars as pl
import structlog

from kommuna.errors import SpecError
from kommuna.spec.choices import Region, known_region
from kommuna.steps.columns import require_columns, require_text, unused
from kommuna.steps.etl.pii.masker import KINDS, Masker
from kommuna.steps.frames import takes_frames

log = structlog.get_logger()

_CACHED = 200_000  # masked texts kept from the counting pass for the writing pass: about 100 MB


class Masked(NamedTuple):
    """Messages with `[PHONE]`, `[CARD]`, … in place of personal data."""

    table: pl.LazyFrame
    metrics: dict[str, float]


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
    if require_columns(table, [text], what="table")[text] == pl.Null:
        return Masked(table, {f"masked_{kind.lower()}": 0.0 for kind in KINDS} | {"masked_rows": 0.0})
    require_text(table, text, what="table")
    counts, rows, cached = _count(table, text, masker)

    def masked(texts: pl.Series) -> pl.Series:
        found = texts.to_frame(text).select(masker.candidate(pl.col(text)))[text].fill_null(False)
        if not found.any():
            return texts
        places = found.arg_true()
        new = [_masked(masker, old, cached) for old in texts.gather(places)]
        return texts.clone().scatter(places, new)

    replaced = pl.col(text).map_batches(masked, return_dtype=pl.String, is_elementwise=True)
    metrics = {f"masked_{kind.lower()}": float(counts[kind]) for kind in KINDS} | {"masked_rows": float(rows)}
    log.info("messages.masked", **metrics)
    return Masked(table.with_columns(replaced.alias(text)), metrics)


def _count(table: pl.LazyFrame, text: str, masker: Masker) -> tuple[Counter[str], int, dict[str, str]]:
    """Counts masked values per kind and masked rows, and keeps the first masked texts by their originals."""
    counts: Counter[str] = Counter()
    rows = 0
    cached: dict[str, str] = {}
    for old, families in _candidates(table, text, masker):
        new, kinds = masker.mask(old, families)
        if kinds:
            rows += 1
            counts.update(kinds)
        if len(cached) < _CACHED:
            cached[old] = new
    return counts, rows, cached


def _candidates(table: pl.LazyFrame, text: str, masker: Masker) -> Iterator[tuple[str, list[str]]]:
    """Yields the texts that may have personal data, each with the families of patterns that it matches."""
    found = table.select(text).filter(masker.candidate(pl.col(text)))
    marks = [pl.when(holds).then(pl.lit(name)) for name, holds in masker.families(pl.col(text)).items()]
    families = unused([text], "#families")
    marked = found.select(text, pl.concat_list(marks).list.drop_nulls().alias(families))
    for batch in marked.collect_batches(maintain_order=False, lazy=True, engine="streaming"):
        yield from zip(batch[text], batch[families].to_list(), strict=True)


def _masked(masker: Masker, old: str, cached: dict[str, str]) -> str:
    new = cached.get(old)
    return masker.mask(old)[0] if new is None else new


def _known_region(region: str) -> str:
    try:
        return known_region(region)
    except ValueError as error:
        what, _, fix = str(error).partition("; ")
        raise SpecError(what, fix=fix) from None

"""Masking of personal data in messages: phones, cards, accounts, taxpayer numbers, e-mails, names."""

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

_REMEMBERED = 200_000  # masked texts that the counting pass keeps for the writing pass: about 100 MB


class Masked(NamedTuple):
    """Messages whose texts hold `[PHONE]`, `[CARD]`, … where they held personal data."""

    table: pl.LazyFrame
    metrics: dict[str, float]


@takes_frames
def mask_pii(table: pl.LazyFrame, *, text: str = "text", names: Sequence[str] = (), region: Region = "RU") -> Masked:
    """Masks what is surely personal data: numbers are masked where their check digits or numbering plan agree.

    Args:
        table: one row a message, cleaned.
        text: the column with the message.
        names: people's names, whole words; compared in the normal form of a text (docs/rules.md).
        region: two letters: where phone numbers without a country code are from.

    Returns:
        The table in the same order, and the metrics `masked_phone`, `masked_card`, `masked_iban`, `masked_inn`,
        `masked_snils`, `masked_email`, `masked_name` (places), `masked_rows`.

    Raises:
        MissingColumn, SchemaDrift: no such column, or it holds no text.
        SpecError: no such region.
    """
    masker = Masker(names, _known_region(region))
    if require_columns(table, [text], what="table")[text] == pl.Null:
        return Masked(table, {f"masked_{kind.lower()}": 0.0 for kind in KINDS} | {"masked_rows": 0.0})
    require_text(table, text, what="table")
    counts, rows, remembered = _count(table, text, masker)

    def masked(texts: pl.Series) -> pl.Series:
        found = texts.to_frame(text).select(masker.candidate(pl.col(text)))[text].fill_null(False)
        if not found.any():
            return texts
        places = found.arg_true()
        new = [_masked(masker, old, remembered) for old in texts.gather(places)]
        return texts.clone().scatter(places, new)

    replaced = pl.col(text).map_batches(masked, return_dtype=pl.String, is_elementwise=True)
    metrics = {f"masked_{kind.lower()}": float(counts[kind]) for kind in KINDS} | {"masked_rows": float(rows)}
    log.info("messages.masked", **metrics)
    return Masked(table.with_columns(replaced.alias(text)), metrics)


def _count(table: pl.LazyFrame, text: str, masker: Masker) -> tuple[Counter[str], int, dict[str, str]]:
    """What is masked how often, in how many rows, and the first masked texts by what they were."""
    counts: Counter[str] = Counter()
    rows = 0
    remembered: dict[str, str] = {}
    for old, families in _candidates(table, text, masker):
        new, kinds = masker.mask(old, families)
        if kinds:
            rows += 1
            counts.update(kinds)
        if len(remembered) < _REMEMBERED:
            remembered[old] = new
    return counts, rows, remembered


def _candidates(table: pl.LazyFrame, text: str, masker: Masker) -> Iterator[tuple[str, list[str]]]:
    """Texts that may hold personal data, each with the families of patterns that it matches."""
    found = table.select(text).filter(masker.candidate(pl.col(text)))
    marks = [pl.when(holds).then(pl.lit(name)) for name, holds in masker.families(pl.col(text)).items()]
    families = unused([text], "#families")
    marked = found.select(text, pl.concat_list(marks).list.drop_nulls().alias(families))
    for batch in marked.collect_batches(maintain_order=False, lazy=True, engine="streaming"):
        yield from zip(batch[text], batch[families].to_list(), strict=True)


def _masked(masker: Masker, old: str, remembered: dict[str, str]) -> str:
    new = remembered.get(old)
    return masker.mask(old)[0] if new is None else new


def _known_region(region: str) -> str:
    try:
        return known_region(region)
    except ValueError as error:
        what, _, fix = str(error).partition("; ")
        raise SpecError(what, fix=fix) from None

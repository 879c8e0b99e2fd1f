"""Step: cleans messages to one Unicode form and plain white space, without empty texts and duplicates."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl
import structlog

from kommuna.errors import DataError, DuplicateKeys
from kommuna.spec.choices import Count
from kommuna.steps.columns import OWN, ROW, require_columns, require_different, require_text, shortened
from kommuna.steps.frames import takes_frames
from kommuna.steps.text import INVISIBLE

log = structlog.get_logger()

MAX_CHARS = 20_000
_VISIBLE = rf"[^\s{INVISIBLE}]"


class Cleaned(NamedTuple):
    """Messages with clean texts, in the order in which they came."""

    table: pl.LazyFrame
    metrics: dict[str, float]


@takes_frames
def clean(table: pl.LazyFrame, *, key: str = "id", text: str = "text", max_chars: Count = MAX_CHARS) -> Cleaned:
    """Normalises texts, and drops empty texts and duplicate rows.

    Texts are converted to Unicode NFC, invisible and control characters are removed, and each run of white space
    (including line breaks and no-break spaces) becomes one space. Of rows that are equal in every column, the first is
    kept.

    Args:
        table: one row per message.
        key: the column that names a row.
        text: the column with the message.
        max_chars: longer texts are cut to this number of characters.

    Returns:
        The table, and the metrics `rows_in`, `rows`, `dropped_empty`, `dropped_duplicates`, `cut_texts`.

    Raises:
        MissingColumn: a column is missing.
        SchemaDrift: `text` is not a text column.
        DuplicateKeys: rows with the same key have different content.
        DataError: a key is null, or every text is empty.
        SpecError: `key` and `text` are the same column.
    """
    require_different(key, text)
    schema = require_columns(table, [key, text], what="table")
    if schema[text] != pl.Null:  # no text at all: refused below, with the number of rows
        require_text(table, text, what="table")
    counted = _count(table, key, text, schema)
    if counted["rows"] and counted["rows"] == counted["empty"]:
        raise DataError(
            f"column '{text}': all {counted['rows']} texts are null or empty",
            fix="name the column that holds the messages",
        )
    filled = table.filter(_has_text(text))
    cleaned = filled.with_columns(normalised(pl.col(text), max_chars).alias(text))
    repeated = _repeated_keys(filled, key)
    duplicates = 0
    if len(repeated):
        duplicates = _identical_rows(cleaned, key, repeated, schema)
        cleaned = cleaned.unique(subset=[key], keep="first", maintain_order=True)
    metrics = {
        "rows_in": float(counted["rows"]),
        "rows": float(counted["rows"] - counted["empty"] - duplicates),
        "dropped_empty": float(counted["empty"]),
        "dropped_duplicates": float(duplicates),
        "cut_texts": float(_too_long(filled, text, max_chars)) if counted["bytes"] > max_chars else 0.0,
    }
    log.info("messages.cleaned", **metrics)
    return Cleaned(cleaned, metrics)


def normalised(text: pl.Expr, max_chars: int | None) -> pl.Expr:
    """Returns the clean form of texts, see `clean`; null stays null.

    Args:
        text: any texts.
        max_chars: longer texts are cut to this number of characters; none if absent.
    """
    visible = text.str.replace_all(f"[{INVISIBLE}]", "").str.normalize("NFC")
    plain = visible.str.replace_all(r"\s+", " ").str.strip_chars(" ")
    return plain if max_chars is None else plain.str.slice(0, max_chars).str.strip_chars_end(" ")


def _has_text(text: str) -> pl.Expr:
    return pl.col(text).str.contains(_VISIBLE)


def _count(table: pl.LazyFrame, key: str, text: str, schema: pl.Schema) -> dict[str, int]:
    """Counts rows, empty texts and the bytes of the longest text; refuses null keys."""
    if schema[text] == pl.Null:
        rows = table.select(pl.len()).collect(engine="streaming").item()
        return {"rows": rows, "empty": rows, "bytes": 0}
    found = (
        table.select(key, text)
        .with_row_index(ROW)
        .select(
            pl.len().alias("rows"),
            (~_has_text(text)).fill_null(True).sum().alias("empty"),
            pl.col(text).str.len_bytes().max().fill_null(0).alias("bytes"),
            pl.when(pl.col(key).is_null()).then(pl.col(ROW)).min().alias("null_key"),
        )
        .collect(engine="streaming")
        .row(0, named=True)
    )
    if found["null_key"] is not None:
        raise DataError(
            f"column '{key}': the key is null in row {found['null_key'] + 1}",
            fix="give each message a unique key",
        )
    return {name: int(found[name]) for name in ("rows", "empty", "bytes")}


def _repeated_keys(table: pl.LazyFrame, key: str) -> pl.Series:
    counts = table.group_by(key).agg(pl.len().alias(f"{OWN}rows")).filter(pl.col(f"{OWN}rows") > 1)
    return counts.select(key).collect(engine="streaming")[key]


def _identical_rows(cleaned: pl.LazyFrame, key: str, repeated: pl.Series, schema: pl.Schema) -> int:
    """Counts the rows that duplicate another; refuses a key whose rows differ."""
    content = [name for name in schema if name != key]
    rows = (
        cleaned.with_row_index(ROW)
        .filter(pl.col(key).is_in(repeated.implode()))
        .select(ROW, key, pl.struct(content).hash(1).alias(f"{OWN}content"))
        .collect(engine="streaming")
        .sort(ROW)
    )
    kinds = pl.col(f"{OWN}content").n_unique().alias(f"{OWN}kinds")
    keys = rows.group_by(key, maintain_order=True).agg(pl.len().alias(f"{OWN}rows"), kinds)
    differing = keys.filter(pl.col(f"{OWN}kinds") > 1)
    if len(differing):
        first = differing.row(0, named=True)
        raise DuplicateKeys(
            f"column '{key}': the key {shortened(first[key])} names {first[f'{OWN}rows']} rows of different content"
            f" ({len(differing)} such {'key' if len(differing) == 1 else 'keys'})",
            fix="give each message a unique key, or keep one row per key (equal rows are de-duplicated)",
        )
    return int(keys[f"{OWN}rows"].sum()) - len(keys)


def _too_long(table: pl.LazyFrame, text: str, max_chars: int) -> int:
    longer = table.select(text).filter(pl.col(text).str.len_bytes() > max_chars)
    plain = normalised(pl.col(text), None)
    return int(longer.select((plain.str.len_chars() > max_chars).sum()).collect(engine="streaming").item())

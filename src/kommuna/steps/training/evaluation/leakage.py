"""Checks that gold rows were not trained on: by key against all training rows, by text against dev rows."""

from __future__ import annotations

import polars as pl

from kommuna.errors import Leakage
from kommuna.steps.columns import require_columns, require_unique
from kommuna.steps.text import bare

SHOWN = 5  # keys in a message


def refuse_leakage(
    gold: pl.LazyFrame, dev: pl.LazyFrame, messages: pl.LazyFrame, *, key: str, text: str, max_text_overlap: float
) -> float:
    """Checks that gold rows are new to the model.

    Args:
        gold: the labeled rows to report on.
        dev: rows that trained or chose the model.
        messages: rows that trained it with weak labels; only `key` is read.
        key: the column that names a row in all three.
        text: the text column; if gold or dev lacks it, only keys are compared.
        max_text_overlap: the largest share of gold rows whose text may be in dev too (short texts repeat by chance).

    Returns:
        The share of gold rows whose normalised text is in dev, 0 to 1.

    Raises:
        Leakage: too many gold rows are in a training table; names the first ones.
        MissingColumn: a table has no such key.
        DuplicateKeys: two keys of gold are equal once numbers are normalised, such as 7 and 007.
    """
    require_columns(gold, [key], what="gold")
    require_columns(dev, [key], what="dev")
    require_columns(messages, [key], what="messages")
    kinds = [table.collect_schema()[key] for table in (gold, dev, messages)]
    numbers = any(kind.is_numeric() for kind in kinds)
    keys = gold.select(_key(key, kinds[0], numbers=numbers)).collect(engine="streaming")
    require_unique(keys[key].drop_nulls(), what="gold")
    for name, table, kind in (("messages", messages, kinds[2]), ("dev", dev, kinds[1])):
        shared = table.select(_key(key, kind, numbers=numbers)).join(keys.lazy(), on=key, how="semi").unique()
        found = shared.sort(key).collect(engine="streaming")[key].to_list()
        if found:
            raise Leakage(
                f"{len(found)} of {keys.height} gold rows are in {name} too, by '{key}': {_first(found)}",
                where=name,
                fix=f"remove the gold rows from {name} before training (an anti-join on '{key}')",
            )
    if text not in gold.collect_schema() or text not in dev.collect_schema():
        return 0.0
    words = pl.col(text).cast(pl.String).map_elements(bare, return_dtype=pl.String).alias("_words")
    known = dev.select(words).unique()
    texts = gold.select(pl.col(key).cast(pl.String), words).filter(pl.col("_words") != "")
    repeated = texts.join(known, on="_words", how="semi").sort(key).collect(engine="streaming")[key].to_list()
    share = len(repeated) / keys.height
    if share > max_text_overlap:
        raise Leakage(
            f"{len(repeated)} of {keys.height} gold texts ({share:.1%}) are in dev too, "
            f"more than max_text_overlap {max_text_overlap:.1%}: rows {_first(repeated)}",
            where=f"column '{text}'",
            fix="draw gold and dev from different messages; raise max_text_overlap only if texts repeat naturally",
        )
    return share


def _key(key: str, kind: pl.DataType, *, numbers: bool) -> pl.Expr:
    """Returns a key as normalised text, so that 1, 1.0, 1.00 and "01" are equal across tables.

    Args:
        key: name of the key column.
        kind: the column's type.
        numbers: whether the keys of some table are numbers; text keys are then compared as numbers where possible. If
            all keys are texts, "01" and "1" differ.
    """
    if isinstance(kind, pl.Datetime):
        return pl.col(key).dt.cast_time_unit("us").dt.replace_time_zone(None).cast(pl.String)
    written = pl.col(key).cast(pl.String)
    if kind.is_float():
        whole = (pl.col(key) == pl.col(key).floor()) & (pl.col(key).abs() < 2.0**63)
        return pl.when(whole).then(pl.col(key).cast(pl.Int64, strict=False).cast(pl.String)).otherwise(written)
    if not numbers:
        return written
    plain = written.str.strip_chars()
    short = plain.str.replace(r"^\+?(-?)0*([0-9])", "$1$2").str.replace(r"(\.[0-9]*?)0+$", "$1").str.strip_suffix(".")
    return pl.when(plain.str.contains(r"^[+-]?[0-9]+(\.[0-9]*)?$")).then(short).otherwise(written)


def _first(keys: list[str]) -> str:
    return ", ".join(keys[:SHOWN]) + (" …" if len(keys) > SHOWN else "")

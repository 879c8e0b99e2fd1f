"""Step: tags messages in batches, streamed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, get_args

import polars as pl
import structlog

from kommuna.spec.choices import Count, TextClassifier
from kommuna.steps.columns import require_columns, require_text
from kommuna.steps.frames import takes_frames
from kommuna.steps.training.tagger import DECISIONS, Tagger

log = structlog.get_logger()


class Predicted(NamedTuple):
    """Outputs of `predict`."""

    predictions: pl.LazyFrame
    metrics: dict[str, float]


@takes_frames
def predict(
    messages: pl.LazyFrame, model: Tagger, *, key: str = "id", text: str = "text", batch_rows: Count = 50_000
) -> Predicted:
    """Tags messages batch by batch, in their order: memory holds one batch and the model.

    Args:
        messages: `key` and the model's feature columns.
        model: the tagger.
        key: the column that names a row; carried.
        text: the text column; it may have another name than in training.
        batch_rows: rows per batch.

    Returns:
        predictions: `key`, `tag` (an Enum; with several tags per row `tags`, a list), `confidence` (Float32,
            calibrated) and `decision` (an Enum): `accepted` where the row has tags, all of a probability that the model
            accepts without review, `no text`, or `review`. A row without text has no tag and no confidence.
        metrics: rows.

    Raises:
        MissingColumn, SchemaDrift: a feature or the key is missing, or the text column holds no texts.
    """
    schema = require_columns(messages, [key], what="messages")
    columns = require_features(messages, model, text, what="messages")
    named = [pl.col(given).alias(name) for given, name in columns.items() if given != key]
    wanted = messages.select(pl.col(key), *named)
    enum = pl.Enum(model.tags)
    tag: dict[str, pl.DataType] = {"tags": pl.List(enum)} if model.multi_label else {"tag": enum}
    out = {key: schema[key], **tag, "confidence": pl.Float32(), "decision": pl.Enum(DECISIONS)}

    def scored(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        source = wanted if n_rows is None else wanted.head(n_rows)
        done = 0
        for batch in source.collect_batches(chunk_size=batch_rows, maintain_order=True):
            for part in batch.iter_slices(batch_rows):
                table = model.predict_table(part).drop("probabilities").insert_column(0, part[key])
                done += part.height
                log.info("predict.batch", rows=done)
                table = table if predicate is None else table.filter(predicate)
                yield table if with_columns is None else table.select(with_columns)

    rows = messages.select(pl.len()).collect(engine="streaming").item()
    predictions = pl.io.plugins.register_io_source(scored, schema=pl.Schema(out), is_pure=True)
    return Predicted(predictions, {"rows": float(rows)})


def require_features(table: pl.LazyFrame, model: Tagger, text: str, *, what: str) -> dict[str, str]:
    """Returns `features_of` the model after checking that the table has them.

    Args:
        table: the table to tag.
        model: the tagger.
        text: the table's text column, which may have another name than in training.
        what: the table's name in errors.

    Raises:
        MissingColumn, SchemaDrift: a feature is missing, or the text column holds no texts.
    """
    columns = features_of(model, text)
    require_columns(table, list(columns), what=what)
    if model.classifier in get_args(TextClassifier):
        require_text(table, text, what=what)
    return columns


def features_of(model: Tagger, text: str) -> dict[str, str]:
    """Maps a table's columns to the model's features; the text column may have another name than in training."""
    if model.classifier in get_args(TextClassifier):
        return {text: model.columns[0]}
    return {name: name for name in model.columns}

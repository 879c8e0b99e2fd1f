"""Reads weak labels and labeled rows as matrices, and checks that the tables fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kommuna.errors import DataError
from kommuna.steps.columns import require_columns, require_unique
from kommuna.steps.labeled_rows import TAGS_COLUMN, label_column, read_labeled_rows, truth_matrix

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class TagSet:
    """The tags in their order, and whether a row may have several."""

    tags: tuple[str, ...]
    several: bool


@dataclass(frozen=True)
class Weak:
    """Messages with a weak label: `frame` has the features, `labels` is `n x k` probabilities."""

    frame: pl.DataFrame
    labels: Matrix
    rows: int  # messages in all, labeled or not

    @property
    def coverage(self) -> float:
        """Share of messages with a label, 0 to 1."""
        return self.frame.height / self.rows if self.rows else 0.0


def tag_set(labels: pl.LazyFrame) -> TagSet:
    """Reads the tags of a label model's table.

    Raises:
        MissingColumn: it has neither `tag` nor `tags`.
        DataError: the tags are not an Enum, whose order the probabilities follow.
    """
    schema = labels.collect_schema()
    several = TAGS_COLUMN in schema
    require_columns(labels, [TAGS_COLUMN if several else "tag", "probabilities"], what="labels")
    kind = schema[TAGS_COLUMN if several else "tag"]
    inner = kind.inner if isinstance(kind, pl.List) else kind
    if not isinstance(inner, pl.Enum):
        raise DataError(
            f"labels: the tags are {kind}, not an Enum",
            fix="give the table that label_messages returned; its probabilities follow the Enum's order",
        )
    return TagSet(tuple(inner.categories.to_list()), several)


def read_weak(
    messages: pl.LazyFrame,
    labels: pl.LazyFrame,
    tags: TagSet,
    *,
    key: str,
    columns: Sequence[str],
    min_confidence: float,
    max_rows: int | None,
    seed: int,
    first: pl.LazyFrame | None = None,
) -> Weak:
    """Joins messages to their weak labels; rows without a label, or with too low a confidence, are left out.

    Args:
        messages: one row per message, with `key` and `columns`.
        labels: their labels by `label_messages`.
        tags: the tags, in the order of the probabilities.
        key: name of the key column.
        columns: names of the feature columns.
        min_confidence: labels below it are left out, 0 to 1.
        max_rows: the most rows to keep, drawn at random; all if None.
        seed: seed of the draw.
        first: rows whose keys are drawn first.

    Raises:
        MissingColumn, DataError, DuplicateKeys: the tables do not fit; no row has a label.
    """
    found = require_columns(messages, [key, *columns], what="messages")
    known = require_columns(labels, [key, "confidence", "probabilities"], what="labels")
    if found[key] != known[key]:
        raise DataError(
            f"column '{key}' is {found[key]} in messages and {known[key]} in labels",
            fix="label the same messages that the classifier is trained on",
        )
    rows, label_rows, confident = _counts(messages, labels, min_confidence)
    if not confident:
        raise DataError(
            f"no message has a label: all {label_rows} rows of labels are unknown"
            + (f" or below min_confidence {min_confidence:g}" if min_confidence else ""),
            where="labels",
            fix="write rules that fire on these messages (see the rule report), or lower min_confidence",
        )
    usable = labels.filter(_confident(min_confidence)).select(key, "probabilities")
    if max_rows is not None and confident > max_rows:
        keys = usable.select(key).collect(engine="streaming")[key]
        order = np.random.default_rng(seed).permutation(confident)
        if first is not None:
            require_columns(first, [key], what="cross_fitted")
            late = ~keys.is_in(first.select(key).unique().collect()[key].implode()).to_numpy()
            order = order[np.argsort(late[order], kind="stable")]
        picked = keys.gather(np.sort(order[:max_rows]))
        usable = usable.filter(pl.col(key).is_in(picked.implode()))
        confident = max_rows
    frame = (
        messages.select(key, *columns)
        .join(usable, on=key, how="inner", maintain_order="left")
        .collect(engine="streaming")
    )
    require_unique(frame[key], what="messages or labels")
    if frame.is_empty():
        raise DataError(f"no '{key}' of labels is found in messages", fix="label the messages that you train on")
    return Weak(
        frame.drop("probabilities"), probabilities_of(frame["probabilities"], frame[key], tags, what="labels"), rows
    )


def read_labeled(
    table: pl.LazyFrame, tags: TagSet, *, what: str, key: str, label: str, columns: Sequence[str]
) -> tuple[pl.DataFrame, Matrix]:
    """Reads labeled rows: their key and features, and `n x k` zeros and ones.

    Args:
        table: dev or gold rows.
        tags: the tags, in the order of the columns of the result.
        what: `dev` or `gold`, for messages.
        key: name of the key column.
        columns: names of the feature columns.
        label: the column of the tag, see `read_labeled_rows`.

    Raises:
        MissingColumn, SchemaDrift: a column is missing or holds no tags.
        DataError: no row is labeled, or a tag is unknown.
        DuplicateKeys: a key names several rows.
    """
    label = label_column(table, label, multi_label=tags.several)
    kept = [column for column in columns if column != label]
    frame = read_labeled_rows(table, multi_label=tags.several, key=key, label=label, what=what, columns=kept)
    truth = truth_matrix(frame[label], frame[key], tags.tags, multi_label=tags.several, what=what)
    return frame.drop(label), truth.astype(np.float32)


def _confident(min_confidence: float) -> pl.Expr:
    return pl.col("probabilities").is_not_null() & (pl.col("confidence").fill_null(0.0) >= min_confidence)


def _counts(messages: pl.LazyFrame, labels: pl.LazyFrame, min_confidence: float) -> tuple[int, int, int]:
    rows, label_rows = pl.collect_all([messages.select(pl.len()), labels.select(pl.len())])
    confident = labels.select(_confident(min_confidence).sum()).collect(engine="streaming").item()
    return int(rows.item()), int(label_rows.item()), int(confident or 0)


def probabilities_of(column: pl.Series, keys: pl.Series, tags: TagSet, *, what: str) -> Matrix:
    """Returns a label model's probabilities, `n x k`; rows sum to 1 if a row has one tag.

    Args:
        column: n lists or arrays of k probabilities.
        keys: n keys, which name the rows in errors.
        tags: the k tags.
        what: the table's name in errors.

    Raises:
        DataError: there is not one per tag, or one is outside 0 to 1; names the row.
    """
    matrix = np.asarray(column.to_numpy(), dtype=np.float32)
    if matrix.ndim != 2 or matrix.shape[1] != len(tags.tags):
        raise DataError(f"{what}: {matrix.shape[-1]} probabilities per row, but {len(tags.tags)} tags")
    bad = ~np.isfinite(matrix).all(axis=1) | (matrix < 0).any(axis=1) | (matrix > 1.001).any(axis=1)
    if bad.any():
        raise DataError(f"{what}: row {keys[int(bad.argmax())]!r} has a probability outside 0 to 1, or NaN")
    if not tags.several:
        matrix = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1e-9)
    return matrix

"""`Folds`: dev rows held out in turn, with weak labels that were not learned from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kommuna.errors import DataError
from kommuna.steps.columns import require_columns
from kommuna.steps.statistics import folds
from kommuna.steps.training.tables import Matrix, TagSet, probabilities_of

FOLDS = 3  # if the label model was not cross-fitted
MIN_ROWS = 30  # dev rows; with fewer, defaults are used instead of choices by folds
WEAK_ROWS = 20_000  # weak rows used to choose parameters, at most

RowNumbers = NDArray[np.intp]


@dataclass(frozen=True)
class Folds:
    """Folds of the dev rows, on which parameters are chosen by cross-validation.

    Attributes:
        of: d, the fold of each dev row.
        rows: s, positions of a sample of the weak rows.
        labels: F x s x k, for each fold the labels of these rows by a label model that did not learn from the fold.
    """

    of: NDArray[np.int64]
    rows: RowNumbers
    labels: Matrix

    def __iter__(self) -> Iterator[tuple[int, RowNumbers, RowNumbers]]:
        """Yields each fold's number, the dev rows to train on, and the held-out ones."""
        for fold in range(len(self.labels)):
            yield fold, np.flatnonzero(self.of != fold), np.flatnonzero(self.of == fold)

    def some(self, most: int, *, seed: int) -> Folds:
        """Returns the same folds with a random sample of the weak rows."""
        if len(self.rows) <= most:
            return self
        picked = np.sort(np.random.default_rng(seed).permutation(len(self.rows))[:most])
        return Folds(self.of, self.rows[picked], self.labels[:, picked])


def random_folds(rows: int, weak_labels: Matrix, *, seed: int) -> Folds:
    """Draws random folds of d dev rows, for weak labels that were not learned from dev rows.

    Args:
        rows: d, the number of dev rows.
        weak_labels: `n x k` probabilities of the label model.
        seed: seed of the folds and of the sample of weak rows.
    """
    random = np.random.default_rng(seed)
    of = folds(rows, FOLDS, seed=random)
    picked = np.sort(random.permutation(len(weak_labels))[:WEAK_ROWS])
    some = weak_labels[picked]
    return Folds(of, picked, np.broadcast_to(some, (FOLDS, *some.shape)))


def read_folds(table: pl.LazyFrame, weak_keys: pl.Series, dev_keys: pl.Series, tags: TagSet, *, seed: int) -> Folds:
    """Reads the folds in which the label model was cross-fitted; dev rows not in them are assigned at random.

    Args:
        table: what `label_messages` returned as `cross_fitted`.
        weak_keys: n keys of the weak rows.
        dev_keys: d keys of the dev rows.
        tags: the tags, in the order of the probabilities.
        seed: seed of the random assignment.

    Raises:
        MissingColumn: the table lacks a column.
        DataError: the table belongs to other messages.
    """
    key = weak_keys.name
    schema = require_columns(table, ["dev", key, "fold", "probabilities"], what="cross_fitted")
    for what, keys in (("messages", weak_keys), ("dev", dev_keys)):
        if schema[key] != keys.dtype:
            raise DataError(
                f"column '{key}' is {schema[key]} in cross_fitted and {keys.dtype} in {what}",
                fix="give train_classifier the same tables as label_messages",
            )
    found_rows = table.collect()
    dev, messages = found_rows.filter(pl.col("dev")), found_rows.filter(~pl.col("dev"))
    count = int(found_rows["fold"].max() or 0) + 1  # type: ignore[arg-type]
    found = pl.DataFrame({key: dev_keys}).join(dev.select(key, "fold"), on=key, how="left", maintain_order="left")
    drawn = folds(len(dev_keys), count, seed=seed)
    of = found["fold"].cast(pl.Int64).fill_null(pl.Series(drawn)).to_numpy()
    places = pl.DataFrame({key: weak_keys, "_row": np.arange(len(weak_keys))})
    known = messages.join(places, on=key, how="inner").sort("fold", "_row")
    if known.height % count or known.is_empty():
        raise DataError(
            "cross_fitted has none of the labeled messages, or not all of them in every fold",
            fix="give the cross_fitted table of the same label_messages run as the labels, or lower min_confidence",
        )
    labels = probabilities_of(known["probabilities"], known[key], tags, what="cross_fitted")
    rows = known["_row"].head(known.height // count).to_numpy()
    return Folds(of, rows, labels.reshape(count, len(rows), -1))

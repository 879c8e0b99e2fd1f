"""How dev rows are held out in turn, with the weak labels that do not know them."""

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

FOLDS = 3  # where the label model brings none
MIN_ROWS = 30  # dev rows: below, held-out folds say nothing and defaults are used
WEAK_ROWS = 20_000  # to choose by, at most

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Folds:
    """Folds of the dev rows; what is chosen, is chosen by judging each fold without it.

    Attributes:
        of: d, the fold of each dev row.
        rows: s, places of weak rows whose labels are known without each fold.
        labels: F x s x k, their labels from a label model that did not learn from the fold.
    """

    of: NDArray[np.int64]
    rows: Rows
    labels: Matrix

    def __iter__(self) -> Iterator[tuple[int, Rows, Rows]]:
        """Each fold's number, the dev rows to learn from, and those to judge by."""
        for fold in range(len(self.labels)):
            yield fold, np.flatnonzero(self.of != fold), np.flatnonzero(self.of == fold)

    def some(self, most: int, *, seed: int) -> Folds:
        """With fewer weak rows."""
        if len(self.rows) <= most:
            return self
        picked = np.sort(np.random.default_rng(seed).permutation(len(self.rows))[:most])
        return Folds(self.of, self.rows[picked], self.labels[:, picked])


def plain_folds(rows: int, weak_labels: Matrix, *, seed: int) -> Folds:
    """Folds of d dev rows where the labels never knew them: they are the same without each."""
    random = np.random.default_rng(seed)
    of = folds(rows, FOLDS, seed=random)
    picked = np.sort(random.permutation(len(weak_labels))[:WEAK_ROWS])
    some = weak_labels[picked]
    return Folds(of, picked, np.broadcast_to(some, (FOLDS, *some.shape)))


def read_folds(table: pl.LazyFrame, weak_keys: pl.Series, dev_keys: pl.Series, tags: TagSet, *, seed: int) -> Folds:
    """The folds in which the label model was cross-fitted; dev rows that it never saw are dealt out at random.

    Args:
        table: what `label_messages` returned as `cross_fitted`.
        weak_keys: n keys of the weak rows.
        dev_keys: d keys.
        seed: of what is dealt out.

    Raises:
        MissingColumn, DataError: it is no such table, or of other messages.
    """
    key = weak_keys.name
    schema = require_columns(table, ["dev", key, "fold", "probabilities"], what="cross_fitted")
    for what, keys in (("messages", weak_keys), ("dev", dev_keys)):
        if schema[key] != keys.dtype:
            raise DataError(
                f"column '{key}' is {schema[key]} in cross_fitted and {keys.dtype} in {what}",
                fix="give train_classifier the tables that label_messages was given",
            )
    told = table.collect()
    dev, messages = told.filter(pl.col("dev")), told.filter(~pl.col("dev"))
    count = int(told["fold"].max() or 0) + 1  # type: ignore[arg-type]
    found = pl.DataFrame({key: dev_keys}).join(dev.select(key, "fold"), on=key, how="left", maintain_order="left")
    dealt = folds(len(dev_keys), count, seed=seed)
    of = found["fold"].cast(pl.Int64).fill_null(pl.Series(dealt)).to_numpy()
    places = pl.DataFrame({key: weak_keys, "_row": np.arange(len(weak_keys))})
    known = messages.join(places, on=key, how="inner").sort("fold", "_row")
    if known.height % count or known.is_empty():
        raise DataError(
            "cross_fitted has none of the labeled messages, or not each in every fold",
            fix="give the table that label_messages returned beside these labels, or lower min_confidence",
        )
    labels = probabilities_of(known["probabilities"], known[key], tags, what="cross_fitted")
    rows = known["_row"].head(known.height // count).to_numpy()
    return Folds(of, rows, labels.reshape(count, len(rows), -1))

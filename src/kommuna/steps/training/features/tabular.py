"""Features of tables for tree models: numbers unchanged, categories as codes, unknown categories as missing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kommuna.errors import DataError

MAX_CATEGORIES = 250  # HistGradientBoosting takes 255 bins; rarer categories count as missing


class TableFeatures:
    """Turns columns into an `n x p` matrix of float64; NaN is missing.

    Args:
        columns: numeric, boolean, String, Categorical or Enum columns.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        self.categories: dict[str, dict[str, int]] = {}

    def fit(self, frame: pl.DataFrame) -> TableFeatures:
        """Learns each category column's values, the most frequent first.

        Raises:
            DataError: a column's type is neither a number nor a category.
        """
        for name in self.columns:
            kind = frame.schema[name]
            if kind in (pl.String, pl.Categorical) or isinstance(kind, pl.Enum):
                counts = frame[name].cast(pl.String).drop_nulls().value_counts()
                values = counts.sort(["count", name], descending=[True, False])[name].to_list()
                self.categories[name] = {value: code for code, value in enumerate(values[:MAX_CATEGORIES])}
            elif not (kind.is_numeric() or kind == pl.Boolean):
                raise DataError(
                    f"feature '{name}' is {kind}: a feature is a number, a boolean or a category",
                    fix="convert times to numbers (hour, days since) in an ETL step, or leave the column out",
                )
        return self

    @property
    def is_category(self) -> list[bool]:
        """For each column, whether it is a category."""
        return [name in self.categories for name in self.columns]

    def transform(self, frame: pl.DataFrame) -> NDArray[np.float64]:
        """Returns the `n x p` matrix of a table with the same columns."""
        codes = [
            pl.col(name)
            .cast(pl.String)
            .replace_strict(self.categories[name], default=None, return_dtype=pl.Float64)
            .alias(name)
            if name in self.categories
            else pl.col(name).cast(pl.Float64)
            for name in self.columns
        ]
        return frame.select(codes).fill_null(float("nan")).to_numpy()

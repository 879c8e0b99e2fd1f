"""`BoostedTrees`: histogram gradient boosting of table rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 255  # scikit-learn's, without the one of missing values
ONE_THREAD_ROWS = 50_000  # above those of the fits that choose parameters

Floats = NDArray[np.float64]


class BoostedTrees:
    """Histogram gradient boosting that accepts columns without any value, on which scikit-learn's class fails.

    Args:
        is_category: which columns are category codes.
        seed: seed of the library's random numbers.
    """

    def __init__(self, is_category: list[bool], seed: int) -> None:
        from sklearn.ensemble import HistGradientBoostingClassifier

        make: Any = HistGradientBoostingClassifier
        self._is_category = is_category
        self._model = make(early_stopping=False, categorical_features=is_category, random_state=seed)

    def fit(self, rows: Any, classes: Any, *, sample_weight: Any) -> BoostedTrees:
        """Fits on `n x p` rows; NaN is missing.

        Args:
            rows: `n x p`.
            classes: n class numbers.
            sample_weight: n weights.
        """
        empty = np.isnan(rows).all(axis=0)
        self._edges = [
            None if category else bin_edges(column, sample_weight)
            for column, category in zip(rows.T, self._is_category, strict=True)
        ]
        with _threads_for(rows):
            self._model.fit(self._binned(np.where(empty, 0.0, rows)), classes, sample_weight=sample_weight)
        return self

    @property
    def classes_(self) -> Any:
        """The classes of the training rows, in the order of the probabilities."""
        return self._model.classes_

    def predict_proba(self, rows: Any) -> Any:
        """Returns `n x c` probabilities of the classes of the training rows."""
        with _threads_for(rows):
            return self._model.predict_proba(self._binned(rows))

    def _binned(self, rows: Any) -> Any:
        """Replaces the values of columns with edges by their bins; the trees of older taggers have none."""
        edges = getattr(self, "_edges", None)
        if edges is None:
            return rows
        out = np.array(rows, dtype=np.float64)
        for column, its in enumerate(edges):
            if its is not None:
                known = ~np.isnan(out[:, column])
                out[known, column] = np.searchsorted(its, out[known, column])
        return out


def bin_edges(column: Floats, weights: Floats) -> Floats | None:
    """Returns the upper edges of a column's bins, of about equal weight; None if it has no more values than bins.

    They are scikit-learn's, which sorts the column once for each bin.

    Args:
        column: n values; NaN is missing.
        weights: n weights.
    """
    counted = ~np.isnan(column) & (weights > 0)
    column, weights = column[counted], weights[counted]
    order = np.argsort(column)
    column, sums = column[order], np.cumsum(weights[order], dtype=np.float64)
    if np.count_nonzero(np.diff(column)) < BINS:
        return None
    wanted = np.linspace(0, 1, BINS + 1)[1:-1] * sums[-1]
    first, after = (np.minimum(np.searchsorted(sums, wanted, side), len(column) - 1) for side in ("left", "right"))
    return np.unique((column[first] + column[after]) / 2)


def _threads_for(rows: Any) -> Any:
    """Uses one thread for few rows: on a busy machine OpenMP's spinning costs 20 times what two threads gain."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]

    return threadpool_limits(1 if len(rows) < ONE_THREAD_ROWS else None)

"""`BoostedTrees`: histogram gradient boosting of table rows."""

from __future__ import annotations

from typing import Any

import numpy as np

ONE_THREAD_ROWS = 20_000


class BoostedTrees:
    """Histogram gradient boosting that accepts columns without any value, on which scikit-learn's class fails.

    Args:
        is_category: which columns are category codes.
        seed: seed of the library's random numbers.
    """

    def __init__(self, is_category: list[bool], seed: int) -> None:
        from sklearn.ensemble import HistGradientBoostingClassifier

        make: Any = HistGradientBoostingClassifier
        self._model = make(early_stopping=False, categorical_features=is_category, random_state=seed)

    def fit(self, rows: Any, classes: Any, *, sample_weight: Any) -> BoostedTrees:
        """Fits on `n x p` rows; NaN is missing.

        Args:
            rows: `n x p`.
            classes: n class numbers.
            sample_weight: n weights.
        """
        empty = np.isnan(rows).all(axis=0)
        with _threads_for(rows):
            self._model.fit(np.where(empty, 0.0, rows), classes, sample_weight=sample_weight)
        return self

    @property
    def classes_(self) -> Any:
        """The classes of the training rows, in the order of the probabilities."""
        return self._model.classes_

    def predict_proba(self, rows: Any) -> Any:
        """Returns `n x c` probabilities of the classes of the training rows."""
        with _threads_for(rows):
            return self._model.predict_proba(rows)


def _threads_for(rows: Any) -> Any:
    """Uses one thread for few rows: on a busy machine OpenMP's spinning costs 20 times what two threads gain."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]

    return threadpool_limits(1 if len(rows) < ONE_THREAD_ROWS else None)

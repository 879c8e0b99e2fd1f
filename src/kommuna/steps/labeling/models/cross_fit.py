"""Cross-fitted labels: predictions of label models that were not fitted on some of the dev rows.

A classifier that learns from labels looks better on dev rows than it is, since the label model has seen their tags.
With these labels each fold of the dev rows is predicted by a classifier, and a label model, that have not seen it
(cross-fitting: Chernozhukov et al. 2018, "Double/debiased machine learning", The Econometrics Journal 21).
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kommuna.steps.cores import side_by_side
from kommuna.steps.labeling.models.base import HeldOut, Probabilities
from kommuna.steps.labeling.votes.patterns import VotePatterns

ROWS = 20_000  # messages at most, predicted once per fold: enough for a selection, and 20 MB at 50 tags


def cross_fitted(
    held_out: HeldOut, dev_keys: pl.Series, dev_labeled: NDArray[np.bool_], keys: pl.Series, patterns: VotePatterns,
    *, seed: int,
) -> pl.DataFrame:  # fmt: skip
    """Predicts the dev rows and a sample of the messages without each fold of the dev rows.

    Args:
        held_out: the cross-fit of the label model.
        dev_keys: d keys.
        dev_labeled: d, whether the row is given a label.
        keys: n keys of the messages.
        patterns: their votes.
        seed: seed of the sample.

    Returns:
        `dev`, whether it is a dev row; the key; `fold`, the fold left out (a dev row has one row, a message one for
        each fold); `probabilities`, an Array of k, null for a row without a label.
    """
    drawn = np.flatnonzero(patterns.labeled[patterns.row_pattern])
    if len(drawn) > ROWS:
        drawn = np.sort(np.random.default_rng(seed).choice(drawn, ROWS, replace=False))
    pattern, line = np.unique(patterns.row_pattern[drawn], return_inverse=True)
    votes, names = patterns.votes[pattern], keys.gather(drawn)
    unknown = pl.when(pl.Series(dev_labeled)).then(pl.col("probabilities"))
    parts = [_lines(True, dev_keys, held_out.fold, held_out.probabilities).with_columns(probabilities=unknown)]
    for fold, predicted in enumerate(side_by_side(lambda predict: predict(votes), held_out.predict)):
        parts.append(_lines(False, names, np.full(len(drawn), fold), predicted[line]))
    return pl.concat(parts)


def _lines(dev: bool, keys: pl.Series, fold: NDArray[np.int64], probabilities: Probabilities) -> pl.DataFrame:
    predicted = pl.Series(probabilities.astype(np.float32), dtype=pl.Array(pl.Float32, probabilities.shape[1]))
    columns = {"dev": dev, keys.name: keys, "fold": pl.Series(fold, dtype=pl.Int8), "probabilities": predicted}
    return pl.DataFrame(columns)

"""What the label model would say had it not learned from some dev rows: for whoever judges by those rows.

A classifier that learns from labels and is then judged on dev rows is flattered, for the labels know the dev rows'
tags. With these labels each fold of the dev rows is judged by a classifier to which it is unknown twice over
(cross-fitting: Chernozhukov et al. 2018, "Double/debiased machine learning", The Econometrics Journal 21).
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kommuna.steps.cores import side_by_side
from kommuna.steps.labeling.models.base import Beliefs, HeldOut
from kommuna.steps.labeling.votes.patterns import VotePatterns

ROWS = 20_000  # messages at most, told once a fold: enough to choose by, and 20 MB at 50 tags


def cross_fitted(
    held_out: HeldOut, dev_keys: pl.Series, dev_labeled: NDArray[np.bool_], keys: pl.Series, patterns: VotePatterns,
    *, seed: int,
) -> pl.DataFrame:  # fmt: skip
    """Dev rows and a sample of the messages as told without each fold of the dev rows.

    Args:
        held_out: the label model without each fold.
        dev_keys: d keys.
        dev_labeled: d, whether the row is given a label.
        keys: n keys of the messages.
        patterns: their votes.
        seed: of the sample.
    Returns:
        `dev`, whether it is a dev row; the key; `fold`, the fold left out (of a dev row its own; a message has a line
        for each); `probabilities`, an Array of k, null for a row without a label.
    """
    drawn = np.flatnonzero(patterns.labeled[patterns.row_pattern])
    if len(drawn) > ROWS:
        drawn = np.sort(np.random.default_rng(seed).choice(drawn, ROWS, replace=False))
    asked, line = np.unique(patterns.row_pattern[drawn], return_inverse=True)
    votes, names = patterns.votes[asked], keys.gather(drawn)
    unknown = pl.when(pl.Series(dev_labeled)).then(pl.col("probabilities"))
    parts = [_lines(True, dev_keys, held_out.fold, held_out.beliefs).with_columns(probabilities=unknown)]
    for fold, told in enumerate(side_by_side(lambda say: say(votes), held_out.predict)):
        parts.append(_lines(False, names, np.full(len(drawn), fold), told[line]))
    return pl.concat(parts)


def _lines(dev: bool, keys: pl.Series, fold: NDArray[np.int64], beliefs: Beliefs) -> pl.DataFrame:
    told = pl.Series(beliefs.astype(np.float32), dtype=pl.Array(pl.Float32, beliefs.shape[1]))
    columns = {"dev": dev, keys.name: keys, "fold": pl.Series(fold, dtype=pl.Int8), "probabilities": told}
    return pl.DataFrame(columns)

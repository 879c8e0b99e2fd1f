"""Statistics that several steps report, each defined once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Counts = NDArray[np.int64] | Floats

BINS = 15  # of confidence
_Z95 = 1.959963984540054  # two-sided 95 % of the normal distribution
_AT_ONCE = 50  # draws of the bootstrap: bounds memory


def wilson(right: int, rows: int) -> tuple[float, float]:
    """Returns the 95 % confidence interval of a share (Wilson 1927, J. Am. Stat. Assoc. 22).

    The same as that of `scipy.stats.binomtest`, which takes 360 microseconds (and half a second to import), where this
    takes one: screening rules needs thousands of intervals.

    Args:
        right: the number of rows that count.
        rows: the number of all rows; without any the interval is 0 to 1.

    >>> tuple(round(x, 4) for x in wilson(81, 263))
    (0.2553, 0.3662)
    """
    if rows == 0:
        return 0.0, 1.0
    p, z2 = right / rows, _Z95**2
    middle = (p + z2 / (2 * rows)) / (1 + z2 / rows)
    half = _Z95 / (1 + z2 / rows) * math.sqrt(p * (1 - p) / rows + z2 / (4 * rows**2))
    # The interval must contain the share; at 0 and 1 rounding could exclude it.
    return max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half))


def interval(draws: Floats) -> tuple[float, float]:
    """Returns the bounds of the central 95 % of draws."""
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)


def bootstrap(rows: int, *, draws: int, seed: int) -> Iterator[Floats]:
    """Yields how often each row is drawn, in blocks of at most 50 of the `draws`; reproducible by the seed.

    Counts are Poisson distributed: the bootstrap (Efron 1979, "Bootstrap methods: another look at the jackknife",
    Annals of Statistics 7) with a random number of rows.

    Args:
        rows: n, the number of rows.
        draws: b, the number of draws.
        seed: seed of the draws.
    """
    random = np.random.default_rng(seed)
    for start in range(0, draws, _AT_ONCE):
        yield random.poisson(1.0, (min(_AT_ONCE, draws - start), rows)).astype(np.float64)


@dataclass(frozen=True)
class TagCounts:
    """Counts per tag, from which precision, recall and F1 follow: `k`, or `b x k` for b bootstrap draws of the rows.

    Attributes:
        right: rows that have the tag and for which it is predicted.
        given: rows for which the tag is predicted.
        true: rows that have the tag.
    """

    right: Counts
    given: Counts
    true: Counts

    @classmethod
    def of(cls, given: Mask, truth: Mask, drawn: Floats | None = None) -> TagCounts:
        """Counts `n x k` predicted and true tags; with `drawn`, `b x n` counts of `bootstrap`, for each draw.

        Args:
            given: `n x k` predicted tags.
            truth: `n x k` true tags.
            drawn: `b x n`, how often each draw of `bootstrap` has each row; None counts every row once.
        """
        masks = (given & truth, given, truth)
        if drawn is not None:
            return cls(*(drawn @ mask for mask in masks))
        return cls(*(mask.sum(axis=0, dtype=np.int64) for mask in masks))

    def __add__(self, other: TagCounts) -> TagCounts:
        return TagCounts(self.right + other.right, self.given + other.given, self.true + other.true)

    def __sub__(self, other: TagCounts) -> TagCounts:
        return TagCounts(self.right - other.right, self.given - other.given, self.true - other.true)

    @property
    def precision(self) -> Floats:
        """Precision of each tag; 0 if it is never predicted."""
        return self.right / np.maximum(self.given, 1)

    @property
    def recall(self) -> Floats:
        """Recall of each tag; 0 if no row has it."""
        return self.right / np.maximum(self.true, 1)

    @property
    def f1(self) -> Floats:
        """F1 of each tag; 0 if it is never predicted correctly."""
        return 2 * self.right / np.maximum(self.given + self.true, 1)

    def macro(self, figure: Floats) -> Floats:
        """Returns the mean of a metric over the tags that rows have or that are predicted, as in scikit-learn.

        A tag that is predicted but that no row has counts with 0. Without any tag the mean is 0.
        """
        present = (self.given > 0) | (self.true > 0)
        return np.asarray(np.where(present, figure, 0).sum(axis=-1) / np.maximum(present.sum(axis=-1), 1))

    @property
    def micro_f1(self) -> float:
        """F1 over all tags of all rows together."""
        return float(2 * self.right.sum() / max(self.given.sum() + self.true.sum(), 1))


def macro_f1(given: Mask, truth: Mask) -> float:
    """Returns the mean F1 of tags, see `TagCounts.macro`; for a row without a prediction its tags are missed.

    >>> a, b = [True, False], [False, True]
    >>> round(macro_f1(np.array([a, b]), np.array([a, a])), 3)
    0.333

    Args:
        given: `n x k`, the predicted tags.
        truth: `n x k`, the tags that the rows have.
    """
    counts = TagCounts.of(given, truth)
    return float(counts.macro(counts.f1))


def calibration_bins(confidence: NDArray[np.floating], right: Mask) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Groups predictions into `BINS` equal bins of confidence; empty bins are left out.

    Args:
        confidence: n, the probability of each prediction, 0 to 1.
        right: n, whether the prediction is right.

    Returns:
        For each bin the mean confidence, the share of right predictions, and the number of predictions.
    """
    which = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    rows, sure, rights = (
        np.bincount(which, weights=weights, minlength=BINS) for weights in (None, confidence, right.astype(np.float64))
    )
    filled = rows > 0
    return sure[filled] / rows[filled], rights[filled] / rows[filled], rows[filled]


def calibration_error(confidence: NDArray[np.floating], right: Mask) -> float:
    """Returns the expected calibration error: the mean gap between confidence and the share of right predictions.

    Each bin's gap is weighted by its predictions (Guo et al. 2017, "On calibration of modern neural networks", eq. 3,
    with their 15 bins).

    Args:
        confidence: n, see `calibration_bins`.
        right: n, whether the prediction is right.

    Returns:
        0 (calibrated) to 1; 0 without predictions.
    """
    sure, share, rows = calibration_bins(confidence, right)
    return float(rows @ np.abs(sure - share) / max(rows.sum(), 1))


def folds(
    rows: int, count: int, *, seed: int | np.random.Generator, strata: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Assigns rows to folds at random: `count` folds of equal size, or one per row if there are fewer rows.

    Args:
        rows: number of rows.
        count: number of folds.
        seed: seed of the random numbers.
        strata: `rows` numbers; rows with the same number are spread evenly over the folds, however few they are.
    """
    count = min(count, max(rows, 1))
    order = np.random.default_rng(seed).permutation(rows)
    if strata is None:
        return order % count
    fold = np.empty(rows, dtype=np.int64)
    fold[order[np.argsort(strata[order], kind="stable")]] = np.arange(rows) % count
    return fold

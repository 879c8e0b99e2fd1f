"""Statistics that several steps report, one definition each."""

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
    """The 95 % interval of a share (Wilson 1927, J. Am. Stat. Assoc. 22).

    That of `scipy.stats.binomtest`, which takes 360 microseconds, and half a second to be imported, for the one
    microsecond here: rules are screened by thousands of them.

    >>> tuple(round(x, 4) for x in wilson(81, 263))
    (0.2553, 0.3662)
    """
    if rows == 0:
        return 0.0, 1.0
    p, z2 = right / rows, _Z95**2
    middle = (p + z2 / (2 * rows)) / (1 + z2 / rows)
    half = _Z95 / (1 + z2 / rows) * math.sqrt(p * (1 - p) / rows + z2 / (4 * rows**2))
    # The bounds enclose the share itself; at 0 and 1 rounding would let it slip out.
    return max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half))


def interval(draws: Floats) -> tuple[float, float]:
    """The middle 95 % of draws."""
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)


def bootstrap(rows: int, *, draws: int, seed: int) -> Iterator[Floats]:
    """How often each row is drawn, in parts of `draws` lines of `rows` counts; the same for one seed.

    Counts are Poisson: the bootstrap (Efron 1979, "Bootstrap methods: another look at the jackknife", Annals of
    Statistics 7) of rows whose number is itself random.
    """
    random = np.random.default_rng(seed)
    for start in range(0, draws, _AT_ONCE):
        yield random.poisson(1.0, (min(_AT_ONCE, draws - start), rows)).astype(np.float64)


@dataclass(frozen=True)
class TagCounts:
    """How rows were given tags: what precision, recall and F1 are made of, each `k`, or `b x k` of b draws of the rows.

    Attributes:
        right: rows that have the tag and are given it.
        given: rows that are given it.
        true: rows that have it.
    """

    right: Counts
    given: Counts
    true: Counts

    @classmethod
    def of(cls, given: Mask, truth: Mask, drawn: Floats | None = None) -> TagCounts:
        """Of `n x k` tags given and true; with `drawn`, b x n counts (`bootstrap`), of each draw of the n rows."""
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
        """0 where the tag is never given."""
        return self.right / np.maximum(self.given, 1)

    @property
    def recall(self) -> Floats:
        """0 where no row has the tag."""
        return self.right / np.maximum(self.true, 1)

    @property
    def f1(self) -> Floats:
        """0 where the tag is never rightly given."""
        return 2 * self.right / np.maximum(self.given + self.true, 1)

    def macro(self, figure: Floats) -> Floats:
        """The mean of a tag's figure over the tags that rows have or are given, as scikit-learn's macro averages.

        A tag that is given and that no row has counts with 0. Without any such tag the mean is 0.
        """
        there = (self.given > 0) | (self.true > 0)
        return np.asarray(np.where(there, figure, 0).sum(axis=-1) / np.maximum(there.sum(axis=-1), 1))

    @property
    def micro_f1(self) -> float:
        """F1 of all rows' tags together."""
        return float(2 * self.right.sum() / max(self.given.sum() + self.true.sum(), 1))


def macro_f1(given: Mask, truth: Mask) -> float:
    """The mean F1 of tags, see `TagCounts.macro`; a row without any tag given has its own missed.

    >>> a, b = [True, False], [False, True]
    >>> round(macro_f1(np.array([a, b]), np.array([a, a])), 3)
    0.333

    Args:
        given: n x k, the tags given.
        truth: n x k, the tags that the rows have.
    """
    counts = TagCounts.of(given, truth)
    return float(counts.macro(counts.f1))


def calibration_bins(confidence: NDArray[np.floating], right: Mask) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """What confidence is worth: the answers in `BINS` equal intervals of confidence, empty ones left out.

    Args:
        confidence: n, the probability of what was answered, 0 to 1.
        right: n, whether the answer was right.

    Returns:
        Of each interval the mean confidence, the share of right answers, and the answers.
    """
    which = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    rows, sure, rights = (
        np.bincount(which, weights=weights, minlength=BINS) for weights in (None, confidence, right.astype(np.float64))
    )
    there = rows > 0
    return sure[there] / rows[there], rights[there] / rows[there], rows[there]


def calibration_error(confidence: NDArray[np.floating], right: Mask) -> float:
    """Expected calibration error: how far confidence is from the share of right answers, on average over answers.

    Each interval's gap counts by its answers (Guo et al. 2017, "On calibration of modern neural networks", eq. 3, with
    their 15 intervals).

    Args:
        confidence: n, see `calibration_bins`.
        right: n.

    Returns:
        0 (calibrated) to 1; 0 without answers.
    """
    sure, share, rows = calibration_bins(confidence, right)
    return float(rows @ np.abs(sure - share) / max(rows.sum(), 1))


def folds(
    rows: int, count: int, *, seed: int | np.random.Generator, strata: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """The fold of each row, drawn at random: `count` folds of equal size, or one per row if there are fewer rows.

    Args:
        rows: n.
        count: how many folds.
        seed: seed of the random numbers.
        strata: n; the rows of each number are spread evenly over the folds, however few they are.
    """
    count = min(count, max(rows, 1))
    order = np.random.default_rng(seed).permutation(rows)
    if strata is None:
        return order % count
    fold = np.empty(rows, dtype=np.int64)
    fold[order[np.argsort(strata[order], kind="stable")]] = np.arange(rows) % count
    return fold

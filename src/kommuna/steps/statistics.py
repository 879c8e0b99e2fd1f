"""Statistics that several steps report, one definition each."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_Z95 = 1.959963984540054  # two-sided 95 % of the normal distribution
_AT_ONCE = 50  # draws of the bootstrap: bounds memory


def wilson(right: int, rows: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927, J. Am. Stat. Assoc. 22).

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


def resampled_f1(drawn: Floats, given: Mask, truth: Mask) -> tuple[Floats, Floats]:
    """F1 of each tag and the mean over tags, in each draw of rows.

    Args:
        drawn: b x n counts, see `bootstrap`.
        given: n x k, the tags given.
        truth: n x k, the tags that the rows have.
    Returns:
        b x k, 0 where a tag is neither given nor true; and b means over the tags that are either.
    """
    right, both = drawn @ (given & truth), drawn @ (given.astype(np.float64) + truth)
    there = both > 0
    f1 = 2 * right / np.where(there, both, 1)
    return f1, f1.sum(axis=1) / np.maximum(there.sum(axis=1), 1)

"""Differences between models on the same draws: mean, paired interval, and the number of points where one is worse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """A mean difference over the draws of one point, and its interval, which is unbounded for a single draw."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, differences: Floats, *, confidence: float = CONFIDENCE) -> Difference:
        """Computes the interval by Student's t; NaN if a difference is NaN, because a model gave no answer."""
        draws, mean = len(differences), float(differences.mean())
        if draws < 2:
            return cls(mean, -np.inf, np.inf)
        half = stats.t.ppf((1 + confidence) / 2, draws - 1) * differences.std(ddof=1) / np.sqrt(draws)
        return cls(mean, mean - float(half), mean + float(half))

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


@dataclass(frozen=True)
class Comparison:
    """Differences at many points.

    Attributes:
        mean: of the points' means.
        worst_at, worst: the point with the lowest mean.
        points: how many there are.
        below: points whose mean is below the tolerance.
        surely: points whose paired interval lies below the tolerance: of equal models one in forty does by chance.
        beyond_chance: the same by intervals that hold at all points at once (Bonferroni).
        failed: points where the model gave no answer; they are in no other figure.
    """

    mean: float
    worst_at: str
    worst: Difference
    points: int
    below: int
    surely: int
    beyond_chance: int
    failed: int

    @classmethod
    def of(cls, differences: Mapping[str, Floats], *, tolerance: float) -> Comparison | None:
        """Computes differences by point; None if the model gives no answer at any point."""
        answered = {at: drawn for at, drawn in differences.items() if np.isfinite(drawn).all()}
        if not answered:
            return None
        at_once = 1 - (1 - CONFIDENCE) / len(answered)
        by_point = {at: Difference.of(drawn) for at, drawn in answered.items()}
        worst = min(by_point, key=lambda at: by_point[at].mean)
        wide = [Difference.of(drawn, confidence=at_once) for drawn in answered.values()]
        return cls(
            float(np.mean([d.mean for d in by_point.values()])),
            worst,
            by_point[worst],
            len(answered),
            sum(d.mean < -tolerance for d in by_point.values()),
            sum(d.high < -tolerance for d in by_point.values()),
            sum(d.high < -tolerance for d in wide),
            len(differences) - len(answered),
        )

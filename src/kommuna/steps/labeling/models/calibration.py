"""How far confidence can be taken at its word."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_], *, bins: int = 15) -> float:
    """Expected calibration error: how far confidence is from the share of right answers, on average over rows.

    Rows are put into `bins` equal intervals of confidence; each interval's gap counts by its rows (Guo et al. 2017,
    "On calibration of modern neural networks", eq. 3).

    Args:
        confidence: the probability of what was answered, 0 to 1.
        right: whether the answer was right.
    Returns:
        0 (at its word) to 1; 0 without rows.
    """
    if not len(confidence):
        return 0.0
    interval = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gap = np.bincount(interval, weights=confidence - right, minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))

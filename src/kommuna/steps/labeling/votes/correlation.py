"""Correlation of rules: whether they vote on the same rows, and agree there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from kommuna.steps.labeling.votes.patterns import VotePatterns

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Correlation:
    """m x m figures of pairs of rules.

    Attributes:
        phi: phi coefficient of voting (as opposed to abstaining), -1 to 1; 1 if two rules vote on the same rows.
        together: the number of rows on which both vote.
        agree: the share of these rows on which both cast the same vote, 0 to 1; 0 if there are none.
    """

    phi: Floats
    together: NDArray[np.int64]
    agree: Floats


def correlation(patterns: VotePatterns) -> Correlation:
    """Computes the figures of all pairs of rules."""
    n = max(patterns.rows, 1)
    weight = sparse.diags_array(patterns.counts.astype(np.float64))
    voted = sparse.csr_array((patterns.votes >= 0).astype(np.float64))
    together = np.asarray((voted.T @ weight @ voted).todense())
    same = np.zeros_like(together)
    for code in np.unique(patterns.votes[patterns.votes >= 0]):
        one = sparse.csr_array((patterns.votes == code).astype(np.float64))
        same += np.asarray((one.T @ weight @ one).todense())
    votes = np.diag(together)
    phi = phi_coefficient(together, votes[:, None], votes, n)
    agree = np.divide(same, together, out=np.zeros_like(same), where=together > 0)
    return Correlation(phi, np.rint(together).astype(np.int64), agree)


def phi_coefficient(both: Any, first: Any, second: Any, rows: int) -> Any:
    """Returns the phi coefficient (Yule 1912, "On the methods of measuring association between two attributes").

    Args:
        both: the number of rows with both attributes; numbers and arrays are accepted.
        first: the number of rows with the first attribute.
        second: the number of rows with the second attribute.
        rows: the number of all rows.

    Returns:
        -1 to 1; 0 if no row, or every row, has one of the attributes.
    """
    both, first, second = (np.asarray(count) / rows for count in (both, first, second))
    spread = np.sqrt(first * (1 - first)) * np.sqrt(second * (1 - second))
    covariance = both - first * second
    return np.divide(covariance, spread, out=np.zeros_like(covariance), where=spread > 0)

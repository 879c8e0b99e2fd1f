"""Correlation of rules: whether they vote on the same rows, and agree there."""

from __future__ import annotations

from dataclasses import dataclass

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
    """Computes phi coefficients (Yule 1912, "On the methods of measuring association between two attributes")."""
    n = max(patterns.rows, 1)
    weight = sparse.diags_array(patterns.counts.astype(np.float64))
    voted = sparse.csr_array((patterns.votes >= 0).astype(np.float64))
    together = np.asarray((voted.T @ weight @ voted).todense())
    same = np.zeros_like(together)
    for code in np.unique(patterns.votes[patterns.votes >= 0]):
        one = sparse.csr_array((patterns.votes == code).astype(np.float64))
        same += np.asarray((one.T @ weight @ one).todense())
    share = np.diag(together) / n
    spread = np.sqrt(share * (1 - share))
    both = np.outer(spread, spread)
    phi = np.divide(together / n - np.outer(share, share), both, out=np.zeros_like(both), where=both > 0)
    agree = np.divide(same, together, out=np.zeros_like(same), where=together > 0)
    return Correlation(phi, np.rint(together).astype(np.int64), agree)

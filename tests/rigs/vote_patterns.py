"""Votes in the form of label models."""

from __future__ import annotations

import numpy as np

from kommuna.steps.labeling.votes.patterns import Codes, VotePatterns, distinct


def patterns(matrix: Codes, k: int) -> VotePatterns:
    """Returns the distinct patterns of n x m votes on k tags."""
    votes, counts, line = distinct(list(np.ascontiguousarray(matrix.T.astype(np.int16, copy=False))))
    rules = tuple(f"r{j}" for j in range(matrix.shape[1]))
    return VotePatterns(votes, counts, line, tuple(f"t{i}" for i in range(k)), rules)

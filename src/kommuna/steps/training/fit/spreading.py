"""Label spreading: near neighbours get similar labels.

Zhou et al. 2004, "Learning with Local and Global Consistency". With S the symmetrically normalised graph of nearest
neighbours and Y the probabilities of each row,

    F = (1 - ALPHA) (I - ALPHA S)^-1 Y

The neighbours of a row that a rule labels wrongly seldom have the same error, so they outvote it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.training.fit.soft_logistic import Matrix

NEIGHBOURS = 5
WIDTH = 0.1  # of the kernel: a neighbour at cosine c weighs exp((c - 1) / WIDTH)
ALPHA = 0.9  # weight of the neighbours
ITERATIONS = 30  # later terms of the series have weight ALPHA ** 30, .04


def neighbours(rows: Matrix) -> Any:
    """Returns the graph S of rows of norm one, `n x n`, sparse."""
    from scipy.sparse import csr_array, diags_array
    from sklearn.neighbors import NearestNeighbors
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]

    n = len(rows)
    if n < 2:
        return csr_array((n, n), dtype=np.float32)
    with threadpool_limits(1):  # the same neighbours on any number of cores
        search = NearestNeighbors(n_neighbors=min(NEIGHBOURS, n - 1), algorithm="brute").fit(rows)
        found = csr_array(search.kneighbors_graph(mode="distance"))
    found.data = np.exp(-(found.data**2) / (2 * WIDTH)).astype(np.float32)  # |a - b|^2 = 2 - 2 cos(a, b)
    graph = found.maximum(found.T)
    root = diags_array(1 / np.sqrt(np.maximum(graph.sum(axis=1), 1e-9)).astype(np.float32))
    return csr_array(root @ graph @ root)


def spread(graph: Any, probabilities: Matrix, known: NDArray[np.bool_]) -> Matrix:
    """Spreads probabilities over the graph.

    Args:
        graph: result of `neighbours`.
        probabilities: `n x k` probabilities.
        known: `n`, which rows have labels; the others only pass labels on.

    Returns:
        `n x k` probabilities: the weighted mean of those that reach a row.
    """
    received = np.column_stack([probabilities, np.ones(len(probabilities), np.float32)]) * known[:, None].astype(
        np.float32
    )
    own = np.float32(1 - ALPHA) * received
    for _ in range(ITERATIONS):
        received = np.float32(ALPHA) * (graph @ received) + own
    return np.asarray(received[:, :-1] / np.maximum(received[:, -1:], np.float32(1e-9)), dtype=np.float32)

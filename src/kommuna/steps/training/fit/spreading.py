"""Label spreading: texts that lie close together believe alike (Zhou et al. 2004, Learning with Local and Global
Consistency).

With S the symmetrically normalised graph of nearest neighbours and Y what each row believes by itself,

    F = (1 - ALPHA) (I - ALPHA S)^-1 Y

A rule's mistake seldom has its neighbours' company, so they outvote it; where they agree, they are surer together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.training.fit.soft_logistic import Matrix

NEIGHBOURS = 5
WIDTH = 0.1  # of the kernel: a neighbour at cosine c weighs exp((c - 1) / WIDTH)
ALPHA = 0.9  # the neighbours' share in what a row believes
ITERATIONS = 30  # what is left out weighs ALPHA ** 30, .04


def neighbours(rows: Matrix) -> Any:
    """The graph S of rows of norm one, `n x n`, sparse; a row without a neighbour stands alone."""
    from scipy.sparse import csr_array, diags_array
    from sklearn.neighbors import NearestNeighbors
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]

    n = len(rows)
    if n < 2:
        return csr_array((n, n), dtype=np.float32)
    with threadpool_limits(1):  # the same neighbours whatever the cores
        search = NearestNeighbors(n_neighbors=min(NEIGHBOURS, n - 1), algorithm="brute").fit(rows)
        found = csr_array(search.kneighbors_graph(mode="distance"))
    found.data = np.exp(-(found.data**2) / (2 * WIDTH)).astype(np.float32)  # |a - b|^2 = 2 - 2 cos(a, b)
    graph = found.maximum(found.T)
    root = diags_array(1 / np.sqrt(np.maximum(graph.sum(axis=1), 1e-9)).astype(np.float32))
    return csr_array(root @ graph @ root)


def spread(graph: Any, beliefs: Matrix, known: NDArray[np.bool_]) -> Matrix:
    """What rows believe after hearing their neighbours.

    Args:
        graph: of `neighbours`.
        beliefs: `n x k` probabilities.
        known: `n`; the others say nothing, they only pass on.

    Returns:
        `n x k`: the mean of the beliefs that reach a row, by how much of each does.
    """
    heard = np.column_stack([beliefs, np.ones(len(beliefs), np.float32)]) * known[:, None].astype(np.float32)
    own = np.float32(1 - ALPHA) * heard
    for _ in range(ITERATIONS):
        heard = np.float32(ALPHA) * (graph @ heard) + own
    return np.asarray(heard[:, :-1] / np.maximum(heard[:, -1:], np.float32(1e-9)), dtype=np.float32)

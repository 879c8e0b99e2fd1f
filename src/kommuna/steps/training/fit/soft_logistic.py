"""Logistic regression on soft labels: the expected loss under the label's distribution, by L-BFGS.

The noise-aware loss of data programming (Ratner et al. 2016, arXiv:1605.07723, eq. 4): for row i with label
distribution p_i, weight w_i and scores z_i = x_i W + b + offset_i,

    sum_i w_i E_{y ~ p_i}[-log softmax(z_i)_y] / sum_i w_i  +  |W|^2 / (2 C sum_i w_i)

With several tags per row, each tag has its own logistic loss and p_i is a row of marginals. scikit-learn's
LogisticRegression takes hard labels only: the same loss there needs every row once per class.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Link = Literal["softmax", "sigmoid"]

BATCH = 2_000  # rows
PASSES = 2  # over all rows
LEAST_BATCHES = 100  # in all passes together
RATE = np.float32(0.6)
DAMPING = np.float32(1e-6)  # a term of few rows moves little


@dataclass(frozen=True)
class Linear:
    """A linear model: `x @ coef + intercept`; coef is `p x k`, intercept `k`."""

    coef: Matrix
    intercept: Matrix

    def scores(self, rows: Any) -> Matrix:
        """Returns `n x k` scores of sparse or dense rows."""
        return np.asarray(_product(rows, self.coef) + self.intercept, dtype=np.float32)

    def plus(self, other: Linear, *, times: float = 1.0) -> Linear:
        """Returns the sum of this model and a multiple of another."""
        return Linear(self.coef + np.float32(times) * other.coef, self.intercept + np.float32(times) * other.intercept)


def fit(
    rows: Any,
    labels: Matrix,
    *,
    link: Link,
    inverse_penalty: float,
    weights: NDArray[np.floating[Any]] | None = None,
    offset: Matrix | None = None,
    start: Linear | None = None,
    iterations: int = 60,
) -> Linear:
    """Fits the linear model that minimises the loss above.

    Args:
        rows: `n x p` features, sparse CSR or dense.
        labels: `n x k` probabilities.
        link: softmax for one tag per row, sigmoid for several.
        inverse_penalty: C; the larger, the weaker the penalty.
        weights: one per row; all 1 if absent.
        offset: `n x k` scores of a prior model, towards which the penalty then pulls. It then covers the intercept too,
            so that a tag without rows is not ruled out.
        start: initial model of the optimiser.
        iterations: the most iterations of L-BFGS.
    """
    from scipy.optimize import minimize
    from scipy.sparse import issparse

    n, p = rows.shape
    k = labels.shape[1]
    weights = np.ones(n) if weights is None else weights
    share = (weights / weights.sum()).astype(np.float32)[:, None]
    penalty = 1.0 / (inverse_penalty * float(weights.sum()))
    columns = rows.T.tocsr() if issparse(rows) else np.ascontiguousarray(rows.T)

    def loss_and_gradient(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        both = flat.reshape(p + 1, k)
        coef = both[:-1].astype(np.float32)
        scores = _product(rows, coef) + both[-1].astype(np.float32)
        if offset is not None:
            scores += offset
        losses, residual = _LOSSES[link](scores, labels)
        residual *= share
        gradient = np.empty_like(both)
        gradient[:-1] = _product(columns, residual)
        gradient[:-1] += penalty * both[:-1]
        gradient[-1] = residual.sum(axis=0)
        loss = float((losses * share[:, 0]).sum() + penalty / 2 * (both[:-1] ** 2).sum())
        if offset is not None:
            gradient[-1] += penalty * both[-1]
            loss += penalty / 2 * float((both[-1] ** 2).sum())
        return loss, gradient.ravel()

    first = np.zeros((p + 1, k))
    if start is not None:
        first[:-1], first[-1] = start.coef, start.intercept
    options = {"maxiter": iterations, "maxcor": 5, "ftol": 1e-5, "gtol": 1e-7}
    found = minimize(loss_and_gradient, first.ravel(), jac=True, method="L-BFGS-B", options=options)
    both = found.x.reshape(p + 1, k).astype(np.float32)
    return Linear(both[:-1], both[-1])


def fit_in_batches(rows: Any, labels: Matrix, *, link: Link, seed: int) -> Linear:
    """Fits a linear model of many sparse rows in a few passes, without the penalty: stopping early takes its place.

    Stochastic gradient descent with a step per coefficient (AdaGrad, Duchi et al. 2011)::

        W -= RATE g / sqrt(DAMPING + sum of g^2)      g: the mean gradient of a batch

    On 100,000 of the demo's messages and 16 tags two passes give the test accuracy of 40 iterations of `fit` (.893) and
    a lower loss, for a twentieth of the processor time. A batch changes only the coefficients of its own terms.

    Args:
        rows: `n x p` features, sparse CSR.
        labels: `n x k` probabilities.
        link: softmax for one tag per row, sigmoid for several.
        seed: seed of the order of the rows.
    """
    from scipy.sparse import csr_matrix

    n, p = rows.shape
    k = labels.shape[1]
    both = np.zeros((p + 1, k), np.float32)  # the last row is the intercept
    squares = np.full((p + 1, k), DAMPING, np.float32)
    random = np.random.default_rng(seed)
    batches = -(-n // BATCH)
    for _ in range(max(PASSES, -(-LEAST_BATCHES // batches))):
        for batch in np.array_split(random.permutation(n), batches):
            some = rows[batch]
            terms, place = np.unique(some.indices, return_inverse=True)
            shape = (len(batch), len(terms))
            some = csr_matrix((some.data, place.astype(np.int32), some.indptr), shape=shape)
            touched = np.append(terms, p)
            now = both[touched]
            _, residual = _LOSSES[link](np.asarray(some @ now[:-1]) + now[-1], labels[batch])
            residual /= len(batch)
            gradient = np.vstack([np.asarray(some.T @ residual), residual.sum(axis=0)])
            seen = squares[touched] + gradient**2
            squares[touched] = seen
            both[touched] = now - RATE * gradient / np.sqrt(seen)
    return Linear(both[:-1], both[-1])


def probabilities(scores: Matrix, link: Link) -> Matrix:
    """Returns the `n x k` probabilities of scores.

    Args:
        scores: `n x k` logits.
        link: softmax for one tag per row, sigmoid for several.
    """
    if link == "sigmoid":
        from scipy.special import expit

        return np.asarray(expit(scores), dtype=np.float32)
    from scipy.special import softmax

    return np.asarray(softmax(scores, axis=1), dtype=np.float32)


def log_losses(scores: NDArray[Any], labels: Matrix, link: Link) -> NDArray[Any]:
    """Returns the `n x k` parts of the log loss of scores, in nats; those of a row add up to its loss.

    Args:
        scores: `n x k` logits.
        labels: `n x k` true tags, or probabilities.
        link: softmax for one tag per row, sigmoid for several.
    """
    if link == "sigmoid":
        return np.asarray(np.logaddexp(np.float32(0), scores) - labels * scores)
    from scipy.special import log_softmax

    return np.asarray(labels * -log_softmax(scores, axis=1))


class RowSpace:
    """Coordinates in the span of few rows of a wide matrix, in which the same model has far fewer parameters.

    The penalised optimum lies in the span of the rows (representer theorem, Kimeldorf and Wahba 1971), so `n` rows of
    `p` features need `n x n` numbers only, and the penalty is unchanged as the basis is orthonormal.

    Args:
        rows: `n x p`, sparse or dense. Above `MAX_ROWS` rows the coordinates are the features themselves.
    """

    MAX_ROWS = 2500

    def __init__(self, rows: Any) -> None:
        self.coordinates: Any = rows
        self._rows = rows
        self._back: Matrix | None = None
        if rows.shape[0] > self.MAX_ROWS or rows.shape[0] >= rows.shape[1]:
            return
        gram = rows @ rows.T
        gram = np.asarray(gram if isinstance(rows, np.ndarray) else gram.toarray(), dtype=np.float64)
        values, vectors = np.linalg.eigh(gram)
        keep = values > max(values.max(), 1e-12) * 1e-9
        root = np.sqrt(values[keep])
        self.coordinates = np.ascontiguousarray((vectors[:, keep] * root).astype(np.float32))
        self._back = (vectors[:, keep] / root).astype(np.float32)

    def lift(self, model: Linear) -> Linear:
        """Returns a model of the coordinates as a model of the features."""
        if self._back is None:
            return model
        columns = self._rows.T if isinstance(self._rows, np.ndarray) else self._rows.T.tocsr()
        return Linear(_product(columns, self._back @ model.coef), model.intercept)


def _softmax_loss(scores: Matrix, labels: Matrix) -> tuple[Matrix, Matrix]:
    """Returns the row sums of `log_losses` and their derivative, with one exponential of each score for both."""
    scores -= scores.max(axis=1, keepdims=True)
    residual = np.exp(scores)
    total = residual.sum(axis=1, keepdims=True)
    losses = (labels * (np.log(total) - scores)).sum(axis=1)
    residual /= total
    residual *= labels.sum(axis=1, keepdims=True)
    residual -= labels
    return losses, residual


def _sigmoid_loss(scores: Matrix, labels: Matrix) -> tuple[Matrix, Matrix]:
    return log_losses(scores, labels, "sigmoid").sum(axis=1), probabilities(scores, "sigmoid") - labels


_LOSSES = {"softmax": _softmax_loss, "sigmoid": _sigmoid_loss}
_THREADS = min(4, os.cpu_count() or 1)
_pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="product")


def _product(left: Any, right: Matrix) -> Matrix:
    """Matrix product; a sparse one by blocks of rows, one per core. The result does not depend on the blocks."""
    if isinstance(left, np.ndarray) or _THREADS == 1 or left.nnz * right.shape[1] < 2_000_000:
        return np.asarray(left @ right, dtype=np.float32)
    # Blocks of about equal numbers of non-zeros: features differ a thousandfold in how often they occur.
    wanted = np.linspace(0, left.nnz, _THREADS + 1)[1:-1]
    edges = [0, *np.searchsorted(left.indptr, wanted).tolist(), left.shape[0]]
    out = np.empty((left.shape[0], right.shape[1]), dtype=np.float32)

    def block(i: int) -> None:
        out[edges[i] : edges[i + 1]] = left[edges[i] : edges[i + 1]] @ right

    list(_pool.map(block, range(_THREADS)))
    return out

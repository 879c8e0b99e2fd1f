"""A BERT encoder (Devlin et al. 2019) in NumPy, pooled to one vector per text (Reimers and Gurevych 2019)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from kommuna.steps.cores import one_blas_thread, side_by_side
from kommuna.steps.training.fit.soft_logistic import Matrix

Ids = list[int]  # of one text's tokens, including the first and last special token
BATCH = 1_024  # tokens per pass


@dataclass(frozen=True)
class Dense:
    """`x @ weights + bias`; `weights` is `p x q`."""

    weights: Matrix
    bias: Matrix

    def __call__(self, x: Matrix) -> Matrix:
        """Returns the `n x q` product of `n x p` rows."""
        out = x @ self.weights
        out += self.bias
        return out


@dataclass(frozen=True)
class Norm:
    """Layer normalisation (Ba et al. 2016) of rows, in place."""

    weights: Matrix
    bias: Matrix
    epsilon: float

    def __call__(self, x: Matrix) -> Matrix:
        """Normalises `n x p` rows in place and returns them."""
        x -= x.mean(axis=1, keepdims=True)
        x /= np.sqrt(np.einsum("ij,ij->i", x, x)[:, None] / np.float32(x.shape[1]) + np.float32(self.epsilon))
        x *= self.weights
        x += self.bias
        return x


@dataclass(frozen=True)
class Layer:
    """Multi-head attention and a feed-forward network with one hidden layer.

    Attributes:
        heads_in: queries, keys and values side by side, `p x 3p`; queries are divided by the root of a head's width.
        heads_out: `p x p`.
        wider: `p x q`.
        narrower: `q x p`.
    """

    heads_in: Dense
    heads_out: Dense
    attended: Norm
    wider: Dense
    narrower: Dense
    done: Norm


def heads_in(q: Dense, k: Dense, v: Dense, heads: int) -> Dense:
    """Combines the queries, keys and values of a layer into one product.

    Args:
        q: the queries, `p x p`.
        k: the keys, `p x p`.
        v: the values, `p x p`.
        heads: the number of attention heads, which divides p.
    """
    scale = np.float32((heads / len(q.bias)) ** 0.5)
    weights = np.hstack([q.weights * scale, k.weights, v.weights])
    return Dense(weights, np.hstack([q.bias * scale, k.bias, v.bias]))


@dataclass(frozen=True)
class Bert:
    """Turns tokens into vectors.

    Attributes:
        words: returns the embeddings of token ids, `n x p`.
        positions: embeddings of positions plus the embedding of the first segment, `most tokens x p`.
        start: normalises the embeddings.
        layers: the layers, in order.
        heads: attention heads per layer.
    """

    words: Callable[[NDArray[np.int64]], Matrix]
    positions: Matrix
    start: Norm
    layers: tuple[Layer, ...]
    heads: int

    def vectors(self, texts: Sequence[Ids]) -> Matrix:
        """Returns `n x p` vectors of norm one: the mean of a text's last hidden states."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        out = np.zeros((len(texts), self.positions.shape[1]), np.float32)
        batches = list(_batches(order, texts))
        with one_blas_thread():
            found = side_by_side(lambda batch: self._pass([texts[i] for i in batch]), batches)
        for batch, vectors in zip(batches, found, strict=True):
            out[batch] = vectors
        return out

    def _pass(self, texts: Sequence[Ids]) -> Matrix:
        """Encodes a batch sorted by length: all its tokens are the rows of one matrix, without padding.

        Only attention combines rows, those of one text; texts of the same length are computed together.
        """
        x = self.words(np.concatenate([np.asarray(ids) for ids in texts]))
        x += np.concatenate([self.positions[: len(ids)] for ids in texts])
        x = self.start(x)
        blocks = _blocks([len(ids) for ids in texts])
        for layer in self.layers:
            x += layer.heads_out(self._attention(layer.heads_in(x), blocks))
            x = layer.attended(x)
            x += layer.narrower(_gelu(layer.wider(x)))
            x = layer.done(x)
        means = np.concatenate([x[rows].reshape(n, t, -1).mean(axis=1) for rows, n, t in blocks])
        return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), dtype=np.float32)

    def _attention(self, qkv: Matrix, blocks: list[Block]) -> Matrix:
        width = qkv.shape[1] // 3
        out = np.empty((len(qkv), width), np.float32)
        for rows, n, t in blocks:
            q, k, v = qkv[rows].reshape(n, t, 3, self.heads, -1).transpose(2, 0, 3, 1, 4)
            weights = q @ k.transpose(0, 1, 3, 2)
            weights -= weights.max(axis=-1, keepdims=True)
            np.exp(weights, out=weights)
            weights /= weights.sum(axis=-1, keepdims=True)
            out[rows] = (weights @ v).transpose(0, 2, 1, 3).reshape(n * t, width)
        return out


Block = tuple[slice, int, int]  # rows of a batch, the number of texts, and the number of tokens of each


def _batches(order: Sequence[int], texts: Sequence[Ids]) -> Iterator[list[int]]:
    batch: list[int] = []
    tokens = 0
    for i in order:
        if batch and tokens + len(texts[i]) > BATCH:
            yield batch
            batch, tokens = [], 0
        batch.append(i)
        tokens += len(texts[i])
    if batch:
        yield batch


def _blocks(lengths: Sequence[int]) -> list[Block]:
    out: list[Block] = []
    start = 0
    for t, same in groupby(lengths):
        n = len(list(same))
        out.append((slice(start, start + n * t), n, t))
        start += n * t
    return out


def _gelu(x: Matrix) -> Matrix:
    """Returns `x` times the normal distribution function at `x` (Hendrycks and Gimpel 2016)."""
    share = erf(x * np.float32(0.5**0.5))
    share += 1
    share *= 0.5
    x *= share
    return x

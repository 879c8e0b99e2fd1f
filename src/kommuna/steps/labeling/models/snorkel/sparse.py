"""Snorkel's LabelModel computed sparsely, with numpy and scipy alone: the library's probabilities without its cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from kommuna.errors import DataError
from kommuna.steps.labeling.models.base import BaseLabelModel, DevRows, Probabilities, softmax
from kommuna.steps.labeling.models.snorkel.constraints import MIN_RULES, check_votes, class_balance
from kommuna.steps.labeling.votes.patterns import Codes, VotePatterns

_KEPT: type[np.floating[Any]] = np.float32  # how the library keeps mu from step to step
_RATE, _MOMENTUM, _PRECISION = 0.01, 0.9, 0.7  # its defaults: learning rate, momentum, initial precision of a rule
_DENSE_FROM = 0.03  # share of pairs that occur from which a dense product is the faster one

Floats = NDArray[np.float64]
Kept = NDArray[np.floating[Any]]
Blocks = list[NDArray[np.intp]]


class SnorkelFast(BaseLabelModel):
    """`snorkel.labeling.model.LabelModel` with sparse matrices: the same loss, steps and initial values.

    (Ratner et al. 2019, "Training complex models with multi-task weak supervision", AAAI; source: snorkel 0.10.)

    With ``mu[(j, v), y] = P(rule j votes v | tag y)``, ``P = diag(class balance)`` and ``O`` the frequencies of pairs
    of votes, the library descends (momentum, no weight decay) on::

        ‖ (O - mu P muᵀ) outside the blocks of one rule ‖²  +  ‖ mu P 1 - diag(O) ‖²

    Here the same is computed

    - on distinct patterns: O is a product of sparse matrices;
    - for votes that were cast at least once: the row of mu of any other starts at 0 and its gradient stays 0;
    - without the d x d product of the loss: the gradient needs only ``(O mu)``, ``mu P (muᵀ mu)`` and each rule's own
      block, which is a single number where a rule votes for one tag.

    The library draws one number, numpy's first after `numpy.random.seed(seed)`, so torch's generator is not needed.
    Computed in float64 throughout, the two are equal to 1e-9. The library keeps mu in float32, and its rounding adds up
    over 500 steps to 1e-6 or more in the probabilities (with its rules in another order it differs from itself by
    as much). So this model keeps mu in float32 too, multiplies what is sparse in float64, and is no further from the
    exact model than the library is. Where a row has so many votes that the library's product underflows and its
    answer is NaN, this model's is finite.

    Args:
        epochs: training epochs.
        seed: seed of the initial values.
    """

    learns_from_dev: ClassVar[bool] = False
    min_rules: ClassVar[int] = MIN_RULES

    def __init__(self, *, epochs: int = 500, seed: int = 0) -> None:
        self._epochs = epochs
        self._seed = seed

    def fit(self, votes: VotePatterns, dev: DevRows | None = None) -> Self:
        """Fits the model; the dev rows set the class balance.

        Raises:
            RulesError: fewer than three rules, or a rule votes against a tag, which Snorkel's model cannot take.
            DataError: the descent diverged.
        """
        check_votes(votes, "snorkel_fast")
        m, k = len(votes.rules), len(votes.tags)
        self._k = k
        dev_balance = class_balance(dev, k)
        self.balance = np.full(k, 1 / k) if dev_balance is None else dev_balance
        cast = np.unique(np.flatnonzero(votes.votes >= 0) % m * k + votes.votes[votes.votes >= 0])
        self._column = np.full(m * k, -1, dtype=np.int64)
        self._column[cast] = np.arange(len(cast))
        p = self.balance.astype(_KEPT)
        mu = _descend(_problem(self._indicators(votes.votes), votes, cast, k), p, cast % k, self._epochs, self._seed)
        if not np.isfinite(mu).all():
            raise DataError(
                "the label model 'snorkel_fast' diverged: its loss is not a number", fix="use model='kommuna'"
            )
        least = min(0.01, 1 / 10 ** np.ceil(np.log10(votes.rows)))
        full = np.full((m * k, k), least, dtype=_KEPT)
        full[cast] = np.clip(mu, _KEPT(least), _KEPT(1 - least))
        order = _columns_by_trust(full.reshape(m, k, k).sum(axis=0) @ np.diag(p), p)
        self._mu = full[:, order]
        # As it is kept: of small probabilities the logarithm's rounding shows in the seventh digit.
        self._log_mu = np.log(full[cast][:, order])
        return self

    def predict(self, votes: Codes) -> Probabilities:
        """Returns P x k probabilities; see `BaseLabelModel.predict`."""
        logs = self._indicators(votes) @ self._log_mu.astype(np.float64) + np.log(self.balance)
        return np.asarray(softmax(logs))

    def conditional_probabilities(self) -> NDArray[np.float64]:
        """Returns m x (k + 1) x k probabilities of abstaining (first) or of each vote, given each tag."""
        mu = self._mu.reshape(-1, self._k, self._k).astype(np.float64)
        return np.concatenate([1 - mu.sum(axis=1, keepdims=True), mu], axis=1)

    def _indicators(self, votes: Codes) -> sparse.csr_array:
        """Returns the P x d matrix that is 1 where the vote was cast.

        Votes that did not occur in fitting have equal rows in mu, which cancel.
        """
        rows, rules = np.nonzero(votes >= 0)
        column = self._column[rules * self._k + votes[rows, rules]]
        known = column >= 0
        shape = (len(votes), int((self._column >= 0).sum()))
        return sparse.csr_array((np.ones(int(known.sum())), (rows[known], column[known])), shape=shape)


@dataclass(frozen=True)
class _Problem:
    """The frequencies that Snorkel's loss compares mu with.

    Attributes:
        single: d, the frequency of each vote.
        pairs: d x d, the frequency of pairs of different rules' votes.
        blocks: the votes of each rule, as one g x c array for all g rules that cast c different votes.
    """

    single: Floats
    pairs: sparse.csr_array | Kept
    blocks: Blocks


def _problem(indicators: sparse.csr_array, votes: VotePatterns, cast: NDArray[np.intp], k: int) -> _Problem:
    weighted = sparse.diags_array(votes.counts.astype(np.float64)) @ indicators
    single = np.asarray(weighted.sum(axis=0)).reshape(-1) / votes.rows
    pairs = sparse.csr_array(indicators.T @ weighted)
    pairs.data = (pairs.data / votes.rows).astype(_KEPT).astype(np.float64)
    rule = (cast // k).astype(np.int64)
    row = np.repeat(np.arange(len(cast)), np.diff(pairs.indptr))
    pairs.data[rule[row] == rule[pairs.indices]] = 0
    pairs.eliminate_zeros()
    _, first, width = np.unique(rule, return_index=True, return_counts=True)
    blocks = [first[width == c][:, None] + np.arange(c) for c in np.unique(width)]
    dense = pairs.nnz > _DENSE_FROM * len(cast) ** 2
    return _Problem(single.astype(_KEPT).astype(np.float64), _dense(pairs) if dense else pairs, blocks)


def _dense(pairs: sparse.csr_array) -> Kept:
    return np.asarray(pairs.astype(_KEPT).toarray())


def _descend(problem: _Problem, balance: Kept, tag: NDArray[np.intp], epochs: int, seed: int) -> Kept:
    """Returns the d x k mu after gradient descent from the library's initial values."""
    start = np.zeros((len(tag), len(balance)), dtype=_KEPT)
    likely = problem.single.astype(_KEPT) * _PRECISION / balance[tag]
    start[np.arange(len(tag)), tag] = np.clip(likely, 0, 1)
    mu = start * _KEPT(np.random.RandomState(seed).random_sample())
    p = balance.astype(np.float64)
    speed = np.zeros_like(mu)
    for _ in range(epochs):
        exact = mu.astype(np.float64)
        toward = (problem.pairs @ (exact if sparse.issparse(problem.pairs) else mu)).astype(np.float64)
        toward -= (exact * p) @ (exact.T @ exact)
        for block in problem.blocks:
            own = exact[block]
            toward[block] += ((own * p) @ own.transpose(0, 2, 1)) @ own
        slope = 2 * (exact @ p - problem.single)[:, None] * p - 4 * toward * p
        speed = _MOMENTUM * speed + slope.astype(_KEPT)
        mu = mu - _RATE * speed
    return np.asarray(mu)


def _columns_by_trust(trust: Kept, balance: Kept) -> NDArray[np.int64]:
    """Assigns the fitted columns to tags: those of equal prior may be swapped, and accuracy decides.

    Args:
        trust: k x k, how often rules vote for the row's tag where the column's tag is true.
        balance: k, the prior.
    """
    from munkres import Munkres

    order = np.arange(len(balance))
    rounded = np.around(balance, 3)
    for value in np.unique(rounded):
        group = np.flatnonzero(rounded == value)
        if len(group) > 1:
            # The library's own solver: where solutions are equally good, another would choose differently.
            for old, new in Munkres().compute((-trust[np.ix_(group, group)].T).tolist()):
                order[group[new]] = group[old]
    return order

"""Dawid and Skene's EM as in crowd-kit 1.4.2, written from the paper: a reference for tests and benchmarks.

crowd-kit itself asks for transformers at import. Beside it on the same votes, gold rows included, the probabilities
differ by 1e-10 at most, to which it clips (`tests/unit/test_dawid_skene_reference.py` keeps its figures).
"""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from kommuna.steps.labeling.votes.patterns import Codes

Floats = NDArray[np.float64]
_LEAST = 1e-10


class DawidSkeneReference:
    """Dawid & Skene 1979, "Maximum likelihood estimation of observer error-rates using the EM algorithm", Applied
    Statistics 28: a confusion matrix a rule, a prior of the tags, no smoothing. An abstention says nothing.

    It starts from the shares of votes and ends after 100 steps, or once the evidence's lower bound, divided by the
    number of votes, rises by less than 1e-5.
    """

    def fit(self, votes: Codes, tags: int, gold: dict[int, int] | None = None) -> Self:
        """Fits on n x m votes.

        Args:
            gold: the tags of some of the rows: they are held to them.
        """
        self._tags = tags
        self._rules = votes.shape[1]
        votes, gold = self._covered(votes, gold or {})
        cast = self._cast(votes)
        share = (
            np.stack([(votes == tag).sum(axis=1) for tag in range(tags)], axis=1) / (votes >= 0).sum(axis=1)[:, None]
        )
        belief = _held(share, gold)
        prior, log_error = belief.mean(axis=0), self._log_errors(cast, belief)
        bound = -np.inf
        for _ in range(100):
            self._log_prior, self._log_error = np.log(np.maximum(prior, _LEAST)), log_error
            belief = _held(self._belief(cast), gold)
            prior, log_error = belief.mean(axis=0), self._log_errors(cast, belief)
            before, bound = bound, self._bound(cast, belief, prior, log_error)
            if bound - before < 1e-5:
                break
        return self

    def predict(self, votes: Codes) -> Floats:
        """Returns n x k probabilities; the prior for a row without votes."""
        return self._belief(self._cast(votes))

    def _covered(self, votes: Codes, gold: dict[int, int]) -> tuple[Codes, dict[int, int]]:
        rows = np.flatnonzero((votes >= 0).any(axis=1))
        place = {int(row): i for i, row in enumerate(rows)}
        return votes[rows], {place[row]: tag for row, tag in gold.items() if row in place}

    def _cast(self, votes: Codes) -> sparse.csr_matrix:
        """Returns n x (m k): the votes, one-hot."""
        row, rule = np.nonzero(votes >= 0)
        column = rule * self._tags + votes[row, rule]
        return sparse.csr_matrix((np.ones(len(row)), (row, column)), shape=(len(votes), self._rules * self._tags))

    def _log_errors(self, cast: sparse.csr_matrix, belief: Floats) -> Floats:
        """Returns (m k) x k: log P(vote of the rule | tag); 0 for votes that the rule never cast."""
        seen = np.asarray(cast.sum(axis=0)).reshape(-1, 1) > 0
        counts = np.where(seen, np.maximum(cast.T @ belief, _LEAST), 0.0).reshape(-1, self._tags, self._tags)
        column = np.maximum(counts.sum(axis=1, keepdims=True), _LEAST)
        frequency = (counts / column).reshape(-1, self._tags)
        return np.log(np.where(frequency > 0, frequency, 1.0))

    def _belief(self, cast: sparse.csr_matrix) -> Floats:
        logits = cast @ self._log_error + self._log_prior
        belief = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(belief / belief.sum(axis=1, keepdims=True))

    def _bound(self, cast: sparse.csr_matrix, belief: Floats, prior: Floats, log_error: Floats) -> float:
        votes = np.asarray(cast.sum(axis=1))
        expected = (belief * (cast @ log_error + votes * np.log(np.maximum(prior, _LEAST)))).sum()
        kept = np.maximum(belief, _LEAST)
        return float((expected - (kept * np.log(kept)).sum()) / cast.sum())


def _held(belief: Floats, gold: dict[int, int]) -> Floats:
    held = belief.copy()
    for row, tag in gold.items():
        held[row] = np.eye(belief.shape[1])[tag]
    return held

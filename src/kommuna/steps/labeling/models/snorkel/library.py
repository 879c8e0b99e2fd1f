"""Snorkel's own LabelModel, behind the same interface."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from kommuna.errors import LimitExceeded
from kommuna.extras import needed_by
from kommuna.spec.resources import memory_bytes
from kommuna.steps.labeling.models.base import BaseLabelModel, DevRows, Probabilities
from kommuna.steps.labeling.models.snorkel.constraints import MIN_RULES, check_votes, class_balance
from kommuna.steps.labeling.votes.patterns import Codes, VotePatterns

_BYTES_PER_CELL = 16  # the one-hot votes in float64, and the copy that the product takes


class SnorkelModel(BaseLabelModel):
    """`snorkel.labeling.model.LabelModel`, trained on every row, and called once per distinct pattern.

    (Ratner et al. 2019, "Training complex models with multi-task weak supervision".)

    Args:
        epochs: training epochs.
        seed: seed of the library's initial values.
        memory: memory limit of its dense n x (m k) matrix, such as `4Gi`; checked before fitting.
    """

    learns_from_dev: ClassVar[bool] = False
    min_rules: ClassVar[int] = MIN_RULES

    def __init__(self, *, epochs: int = 500, seed: int = 0, memory: str = "4Gi") -> None:
        self._epochs = epochs
        self._seed = seed
        self._memory = memory

    def fit(self, votes: VotePatterns, dev: DevRows | None = None) -> Self:
        """Fits the model; the dev rows set the class balance.

        Raises:
            RulesError: fewer than three rules, or a rule votes against a tag, which the library cannot take.
            LimitExceeded: its matrix would not fit in `memory`.
            SpecError: torch is not installed.
        """
        check_votes(votes, "snorkel")
        m, k, n = len(votes.rules), len(votes.tags), votes.rows
        needed = n * m * k * _BYTES_PER_CELL
        if needed > memory_bytes(self._memory):
            raise LimitExceeded(
                f"the label model 'snorkel' needs {needed / 2**30:.1f} GiB for {n:,} rows x {m} rules x {k} tags, "
                f"more than {self._memory}",
                fix="take model='kommuna', which works on distinct patterns; or raise `memory` and the step's",
            )
        with needed_by("the label model 'snorkel'", otherwise="take model='kommuna'"):
            from snorkel.labeling.model import LabelModel
        dev_balance = class_balance(dev, k)
        self.balance = np.full(k, 1 / k) if dev_balance is None else dev_balance
        balance = None if dev_balance is None else dev_balance.tolist()
        self._model = LabelModel(cardinality=k, verbose=False)
        rows = votes.row_votes().astype(np.int64)
        self._model.fit(rows, n_epochs=self._epochs, seed=self._seed, class_balance=balance, progress_bar=False)
        self._step = max(1, memory_bytes(self._memory) // (m * k * _BYTES_PER_CELL))
        return self

    def predict(self, votes: Codes) -> Probabilities:
        """Returns P x k probabilities; see `BaseLabelModel.predict`."""
        parts = [votes[i : i + self._step] for i in range(0, len(votes), self._step)]
        return np.concatenate([self._model.predict_proba(part.astype(np.int64)) for part in parts])

    def conditional_probabilities(self) -> NDArray[np.float64]:
        """Returns the library's m x (k + 1) x k probabilities of abstaining (first) or of each vote, given each tag."""
        return np.asarray(self._model.get_conditional_probs(), dtype=np.float64)

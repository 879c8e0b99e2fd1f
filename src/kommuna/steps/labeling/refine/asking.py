"""`AskedRules`: the votes of the `ask` rules that a refinement starts from; each text is asked about once."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import polars as pl

from kommuna.spec.llm import Asking, Budget
from kommuna.spec.rules import Rule, RuleSet
from kommuna.spec.step import StoreAddress
from kommuna.steps.labeling.rules.ask.votes import votes_by
from kommuna.steps.llm.client import Llm, Model
from kommuna.steps.llm.ledger import Billed

_ASKING = Asking()


class AskedRules:
    """Asks the light LLM the questions of a refinement's `ask` rules.

    Answers are kept for all runs of the team or, where runs share no folder, in memory. Votes on the same rows are
    computed once. Where the budget does not allow an answer, the rule abstains.

    Args:
        llm: the platform's models.
        rules: the rules that the loop starts from.
        multi_label: whether a row may have several tags.
        tags: the tags.
        key: the column that names a row.
        text: the column with the message.
    """

    def __init__(
        self, llm: Llm, rules: Sequence[Rule], tags: Sequence[str], *, multi_label: bool, key: str, text: str
    ) -> None:
        asking = tuple(rule for rule in rules if rule.reads == "answers")
        self._rules = RuleSet(tags=tuple(tags), multi_label=multi_label, rules=asking) if asking else None
        self._llm = llm
        self._columns = {"key": key, "text": text}
        self._shared = llm.shared or StoreAddress(url=f"memory://kommuna-{uuid.uuid4().hex}")
        self._model: Model | None = None
        self._votes: list[tuple[pl.DataFrame, pl.DataFrame]] = []
        self._unasked = 0.0

    def votes(self, rows: pl.DataFrame) -> pl.LazyFrame | None:
        """Returns the votes of all `ask` rules on some rows; None if there are no such rules.

        Raises:
            LlmSettings, LlmUnreachable, NoUsableAnswers: see `ask_votes`.
        """
        if self._rules is None:
            return None
        for known, votes in self._votes:
            if known is rows:
                return votes.lazy()
        votes, _, metrics = votes_by(
            self.model, rows.lazy(), self._rules, _ASKING, shared=self._shared, **self._columns
        )
        self._unasked += metrics["ask_unasked"]
        self._votes.append((rows, votes))
        return votes.lazy()

    @property
    def model(self) -> Model:
        """The light model."""
        if self._model is None:
            self._model = self._llm.light()
        return self._model

    def limit(self, budget: Budget) -> None:
        """Sets the most that all questions may use, also those asked so far."""
        if self._rules is not None:
            self.model.spending.budget = budget

    @property
    def billed(self) -> Billed:
        """What the questions were billed so far, over all attempts."""
        return self._model.spending.total if self._model is not None else Billed()

    def metrics(self) -> dict[str, float]:
        """Returns the usage of the questions, and the number of answers that the budget did not allow."""
        if self._rules is None:
            return {}
        billed = self.billed
        return {
            "ask_requests": float(billed.requests),
            "ask_tokens": float(billed.tokens),
            "ask_cost": billed.money,
            "ask_unasked": self._unasked,
        }

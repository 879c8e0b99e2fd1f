"""`Llm`: the platform's light and heavy model, as a step that declares a parameter of this type is given them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar

from kommuna.errors import LlmSettings
from kommuna.spec.llm import Budget, LlmEndpoint, Llms
from kommuna.spec.step import Services, StoreAddress
from kommuna.steps.llm.dialect import Dialect
from kommuna.steps.llm.session import Message, Patience, Session, session
from kommuna.steps.llm.spending import Spending

T = TypeVar("T")


class Model:
    """One model, with a budget and a tally of its own.

    Args:
        endpoint: where it answers.
        budget: past it `BudgetSpent` is raised before a request is sent.
        patience: how long a request is tried.
    """

    def __init__(self, endpoint: LlmEndpoint, budget: Budget | None = None, patience: Patience | None = None) -> None:
        self.endpoint = endpoint
        self.spending = Spending(endpoint, budget or Budget())
        self._patience = patience or Patience()
        self._dialect = Dialect()

    def complete_json(
        self, messages: Sequence[Message], schema: dict[str, Any], *, most_tokens: int = 4096
    ) -> dict[str, Any]:
        """One answer, forced into a JSON schema; waits for it.

        Args:
            messages: `{"role": "system" | "user" | "assistant", "content": masked text}`.
            schema: JSON schema of an object, every property required, `additionalProperties` false.
            most_tokens: the longest answer.

        Raises:
            LlmAnswerError: refused, malformed, cut, contradictory, or the prompt is too long.
            LlmUnreachable: no answer after all tries.
            LlmSettings: the key, the model or the request is refused.
            BudgetSpent: it might go past the budget; nothing was sent.
        """

        async def once() -> dict[str, Any]:
            async with self.session() as asked:
                return await asked.complete_json(messages, schema, most_tokens=most_tokens)

        return waited(once())

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """Many requests from one event loop."""
        async with session(self.endpoint, self.spending, self._patience, self._dialect) as asked:
            try:
                yield asked
            finally:
                self._dialect = asked.dialect

    def metrics(self) -> dict[str, float]:
        """`llm_requests`, `llm_retries`, `llm_tokens_in`, `llm_tokens_out`, `llm_cost`, `llm_latency_p50`, …"""
        return self.spending.metrics()


class Llm:
    """The platform's models.

    Args:
        llms: the endpoints; none of them is needed until it is asked.
        shared: where answers are kept for other runs; none keeps nothing.
        patience: how long a request is tried.
    """

    def __init__(
        self, llms: Llms | None = None, shared: StoreAddress | None = None, patience: Patience | None = None
    ) -> None:
        self._llms = llms or Llms()
        self.shared = shared
        self._patience = patience
        self._asked: dict[str, None] = {}

    @classmethod
    def from_services(cls, services: Services) -> Self:
        """The models that the platform names, if any."""
        return cls(services.llm, services.shared)

    def light(self, budget: Budget | None = None, *, name: str = "") -> Model:
        """The model that answers many short questions.

        Args:
            budget: of the model that is returned.
            name: another model behind the same endpoint; none is the platform's.

        Raises:
            LlmSettings: the platform names none.
        """
        model = self._model("light", self._llms.light, budget)
        if not name:
            return model
        return Model(model.endpoint.model_copy(update={"model": name}), budget, self._patience)

    def heavy(self, budget: Budget | None = None) -> Model:
        """The model that writes rules.

        Raises:
            LlmSettings: the platform names none.
        """
        return self._model("heavy", self._llms.heavy, budget)

    def settings_used(self) -> list[str]:
        """Settings that the answers depend on, of the models that were asked for: see the step cache."""
        return [f"llm.{which}.{name}" for which in self._asked for name in ("url", "model")]

    def _model(self, which: str, endpoint: LlmEndpoint | None, budget: Budget | None) -> Model:
        if endpoint is None:
            raise LlmSettings(
                f"no {which} LLM is configured",
                where=f"kommuna.yaml: llm.{which}",
                fix=f"set `llm: {{{which}: {{url: …/v1, model: …, key_variable: …}}}}` in kommuna.yaml",
            )
        self._asked[which] = None
        return Model(endpoint, budget, self._patience)


def waited(work: Coroutine[Any, Any, T]) -> T:
    """The result of asynchronous work; also where an event loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="llm") as pool:
        return pool.submit(asyncio.run, work).result()

"""`Llm`: the platform's light and heavy model, passed to every step that declares a parameter of this type."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Self, TypeVar

from kommuna.errors import LlmSettings
from kommuna.spec.llm import Budget, LlmEndpoint, Llms
from kommuna.spec.step import Services, StoreAddress
from kommuna.steps.llm.allowance import Allowance
from kommuna.steps.llm.ledger import Ledger
from kommuna.steps.llm.memory import DialectMemory
from kommuna.steps.llm.negotiation import Learned
from kommuna.steps.llm.outgoing import Message
from kommuna.steps.llm.session import LlmRetryPolicy, Session, session
from kommuna.steps.llm.spending import Spending

T = TypeVar("T")


class Model:
    """Sends requests to one model, within a budget of its own.

    Args:
        endpoint: URL, name and prices of the model.
        budget: the most that requests may use; no limit if absent.
        retry_policy: how often and how long a request is retried.
        ledger: records what requests are billed, for later attempts at the same work.
        allowance: what the team's budgets leave.
        memory: keeps the request parameters that the endpoint accepts, for later runs.
    """

    def __init__(
        self,
        endpoint: LlmEndpoint,
        budget: Budget | None = None,
        retry_policy: LlmRetryPolicy | None = None,
        ledger: Ledger | None = None,
        allowance: Allowance | None = None,
        memory: DialectMemory | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.spending = Spending(endpoint, budget or Budget(), ledger, allowance)
        if allowance is not None:
            allowance.add(self.spending)
        self._retry_policy = retry_policy or LlmRetryPolicy()
        self._learned = Learned()
        self._memory = memory or DialectMemory(None, endpoint)

    def complete_json(
        self, messages: Sequence[Message], schema: dict[str, Any], *, most_tokens: int = 4096
    ) -> dict[str, Any]:
        """Returns one answer that conforms to a JSON schema.

        Args:
            messages: `{"role": "system" | "user" | "assistant", "content": masked text}`.
            schema: JSON schema of an object, every property required, `additionalProperties` false.
            most_tokens: the most tokens that the answer may have.

        Raises:
            LlmAnswerError: the answer is a refusal, malformed, truncated or contradictory, or the prompt is too long.
            LlmUnreachable: there was no answer after all tries.
            LlmSettings: the endpoint rejects the key, the model or the request.
            BudgetSpent, TeamBudgetSpent: the request might exceed a budget; it was not sent.
        """

        async def once() -> dict[str, Any]:
            async with self.session() as open_session:
                return await open_session.complete_json(messages, schema, most_tokens=most_tokens)

        return run_sync(once())

    @asynccontextmanager
    async def session(self, *, logprobs: bool = False) -> AsyncIterator[Session]:
        """Opens a session for many requests from one event loop.

        Args:
            logprobs: whether the log probabilities of the answers' tokens are wanted; some servers give none.
        """
        learned = self._learned
        if not learned.accepted:
            learned.dialect = await asyncio.to_thread(self._memory.load)
        kept = learned.dialect
        known = learned.dialect = replace(kept, logprobs=kept.logprobs and logprobs)
        async with session(self.endpoint, self.spending, self._retry_policy, learned) as open_session:
            try:
                yield open_session
            finally:
                if learned.accepted and learned.dialect != known:
                    found = learned.dialect if logprobs else replace(learned.dialect, logprobs=kept.logprobs)
                    await asyncio.to_thread(self._memory.save, found)

    def metrics(self) -> dict[str, float]:
        """Returns the usage of all attempts as metrics: `llm_requests`, `llm_tokens_in`, `llm_cost`, … ."""
        return self.spending.metrics()


class Llm:
    """Gives access to the platform's models.

    Args:
        llms: the endpoints; each may be absent until a step needs it.
        shared: where answers and bills are kept for other runs; they are not kept if absent.
        retry_policy: how often and how long a request is retried.
        team: the team's name, for messages.
        work: identifies what the models are asked for: budgets and metrics continue where a killed attempt at the same
            work ended.
        allowance: what the team's budgets leave.
    """

    def __init__(
        self,
        llms: Llms | None = None,
        shared: StoreAddress | None = None,
        retry_policy: LlmRetryPolicy | None = None,
        *,
        team: str = "",
        work: str = "",
        allowance: Allowance | None = None,
    ) -> None:
        self._llms = llms or Llms()
        self.shared = shared
        self._retry_policy = retry_policy
        self._team = team
        self._work = work
        self.allowance = allowance or Allowance()
        self._used: dict[str, int] = {}

    @classmethod
    def from_services(cls, services: Services) -> Self:
        """Creates the client from the platform's settings."""
        team = services.workspace
        allowance = Allowance(services.llm_budgets, services.shared, team=team, run=services.run)
        return cls(services.llm, services.shared, team=team, work=services.work, allowance=allowance)

    def light(self, budget: Budget | None = None, *, name: str = "") -> Model:
        """Returns the model for many short questions.

        Args:
            budget: the most that requests to the returned model may use.
            name: another model behind the same endpoint; the platform's model if empty.

        Raises:
            LlmSettings: the platform has no such endpoint.
        """
        return self._model("light", self._llms.light, budget, name)

    def heavy(self, budget: Budget | None = None) -> Model:
        """Returns the model that writes rules.

        Args:
            budget: the most that requests to the returned model may use.

        Raises:
            LlmSettings: the platform has no such endpoint.
        """
        return self._model("heavy", self._llms.heavy, budget)

    def settings_used(self) -> list[str]:
        """Returns the settings that answers depend on, of the models in use; the step cache records them."""
        return [f"llm.{which}.{name}" for which in self._used for name in ("url", "model")]

    def _model(self, which: str, endpoint: LlmEndpoint | None, budget: Budget | None, name: str = "") -> Model:
        if endpoint is None:
            raise LlmSettings(
                f"no {which} LLM is configured" + (f" for team {self._team}" if self._team else ""),
                where=f"kommuna.yaml: llm.{which}",
                fix=f"set `llm: {{{which}: {{url: …/v1, model: …, key_variable: …}}}}` in kommuna.yaml, or in "
                f"the chart's values; if it is set, have the team named in `llm.{which}.teams`",
            )
        if name:
            endpoint = endpoint.model_copy(update={"model": name})
        self._used[which] = number = self._used.get(which, 0) + 1  # each of a step's models has a budget of its own
        part = f"{which} {number}"
        ledger = Ledger(
            self.shared, self._work, part=part, model=endpoint.model, url=endpoint.url, run=self.allowance.run
        )
        memory = DialectMemory(self.shared, endpoint)
        return Model(endpoint, budget, self._retry_policy, ledger, self.allowance, memory)


def run_sync(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end and returns its result, even inside a running event loop, as in a notebook."""
    if not _in_event_loop():
        return asyncio.run(work)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="llm") as pool:
        return pool.submit(asyncio.run, work).result()


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True

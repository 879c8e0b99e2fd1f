"""`Session`: concurrent requests to one model from one event loop, with retries, pauses and a budget."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from kommuna.errors import BudgetSpent, KommunaError, LlmUnreachable
from kommuna.extras import needed_by
from kommuna.spec.llm import LlmEndpoint
from kommuna.steps.llm import allowance as team
from kommuna.steps.llm.bounded import OversizedBody
from kommuna.steps.llm.connection import http_client
from kommuna.steps.llm.dialect import Dialect
from kommuna.steps.llm.faults import Rejection, Retry, classify
from kommuna.steps.llm.key import ApiKey
from kommuna.steps.llm.ledger import Billed, Commits
from kommuna.steps.llm.negotiation import PROBE, PROBE_SCHEMA, PROBE_TOKENS, Learned, Negotiation
from kommuna.steps.llm.outgoing import Message, Outgoing
from kommuna.steps.llm.response import CompletedAnswer, answer_of, completion, usage_of
from kommuna.steps.llm.slots import Slots
from kommuna.steps.llm.spending import Spending, Tokens

log = structlog.get_logger()

T = TypeVar("T")

_TOKENS_AROUND = 64  # added to each message by the chat template


@dataclass(frozen=True)
class LlmRetryPolicy:
    """How often and how long a request is retried.

    Attributes:
        tries: the most times that one request is sent.
        pause: seconds before the first retry. Each further pause is twice as long, plus up to a quarter at random.
        longest: the longest pause in seconds; if the server asks for a longer one, the request fails.
    """

    tries: int = 7
    pause: float = 0.5
    longest: float = 120.0


class Session:
    """Sends requests to one model from one event loop. Opened by `session`.

    Args:
        endpoint: URL, name and prices of the model.
        client: the `openai` client.
        key: the endpoint's key, which no message shows.
        spending: what requests have used; it outlives the session.
        retry_policy: how often and how long a request is retried.
        learned: what requests to the endpoint have shown; it outlives the session, too.
    """

    def __init__(
        self,
        endpoint: LlmEndpoint,
        client: Any,
        key: ApiKey,
        spending: Spending,
        retry_policy: LlmRetryPolicy,
        learned: Learned,
    ) -> None:
        self.endpoint = endpoint
        self.spending = spending
        self.records = Commits(spending.record)
        self._learned = learned
        self._negotiation = Negotiation(endpoint, learned, key, self._probe)
        self.client = client
        self._key = key
        self._retry_policy = retry_policy
        self._slots = Slots(endpoint.concurrency)
        self._settled = asyncio.Condition()
        self._hold_until = 0.0
        self._outgoing = Outgoing()

    async def complete_json(
        self, messages: Sequence[Message], schema: dict[str, Any], *, most_tokens: int
    ) -> dict[str, Any]:
        """Returns the JSON of one answer, as `complete` does.

        Args:
            messages: role and content.
            schema: JSON schema of the answer, an object.
            most_tokens: the most tokens that the answer may have.
        """
        return (await self.complete(messages, schema, most_tokens=most_tokens)).json

    async def complete(
        self, messages: Sequence[Message], schema: dict[str, Any], *, most_tokens: int
    ) -> CompletedAnswer:
        """Returns one answer that conforms to a JSON schema.

        Personal data that a message still contains is masked: every request to an LLM goes through here.

        Args:
            messages: role and content, masked.
            schema: JSON schema of the answer, an object.
            most_tokens: the most tokens that the answer may have.

        Raises:
            LlmAnswerError: the answer is a refusal, malformed or truncated, or the prompt is too long.
            LlmUnreachable: there was no answer after all tries.
            LlmSettings: the endpoint rejects the key, the model or the request.
            BudgetSpent: the request might exceed the step's budget; it was not sent.
            TeamBudgetSpent: the same, for the team's budget of the month or of the run.
            StoreError: what requests are billed cannot be recorded; nothing is sent without a record.
        """
        safe = [self._masked(message) for message in messages]
        async with self._slots.taken():
            return await self._with_retries(safe, schema, _most(safe, schema, most_tokens))

    def body(
        self, messages: Sequence[Message], schema: dict[str, Any], most_tokens: int
    ) -> tuple[dict[str, Any], Tokens]:
        """Returns the body of a request that is sent as part of a batch, masked, and the most that it may use.

        Args:
            messages: role and content.
            schema: JSON schema of the answer, an object.
            most_tokens: the most tokens that the answer may have.
        """
        safe = [self._masked(message) for message in messages]
        arguments = self.dialect.request(schema, most_tokens)
        return {"model": self.endpoint.model, "messages": safe, **arguments}, _most(safe, schema, most_tokens)

    async def call(self, make: Callable[[], Awaitable[T]]) -> T:
        """Makes a call that is not billed, such as one about batches, with retries.

        Args:
            make: makes the call by the client; it is called once per try.

        Raises:
            LlmSettings: the endpoint rejects it.
            LlmUnreachable: there was no answer after all tries.
        """
        tries = 0
        while True:
            await self._hold()
            try:
                return await make()
            except Exception as error:
                failure = error
            if isinstance(failure, KommunaError):
                raise self._without_key(failure)
            fault = classify(failure, self.endpoint, self._key)
            if isinstance(fault, Rejection):
                fault = fault.of_all
            if isinstance(fault, KommunaError):
                raise self._without_key(fault)
            tries += 1
            await self._wait(fault, tries)

    def shown(self, text: str) -> str:
        """Returns a server's words as a message may show them: on one line, without the key, not too long."""
        return self._key.hidden(" ".join(text.split()))[:300]

    async def responds(self) -> bool:
        """Returns whether the endpoint has answered a request, or answers one without any client's words."""
        return await self._negotiation.responds()

    @property
    def dialect(self) -> Dialect:
        """The request parameters that the endpoint accepts, as far as known."""
        return self._learned.dialect

    async def model_names(self) -> list[str] | None:
        """Returns the names of the models that the endpoint lists; None if it lists none."""
        try:
            return [model.id async for model in self.client.models.list()]
        except Exception:  # an error, or something else than a list
            return None

    async def has_batches(self) -> bool:
        """Returns whether the endpoint has OpenAI's batches."""
        try:
            return isinstance((await self.client.batches.list(limit=1)).data, list)
        except Exception:  # an error, or something else than a list
            return False

    async def probe(self, **extra: Any) -> dict[str, Any] | None:
        """Returns the body of the answer to a harmless request with further parameters; None if it is rejected."""
        most = _most(PROBE, PROBE_SCHEMA, PROBE_TOKENS)
        await self._reserve(most)
        try:
            return await self._exchange(PROBE, self.dialect.request(PROBE_SCHEMA, PROBE_TOKENS) | extra, most)
        except Exception:
            return None

    async def _with_retries(self, messages: list[Message], schema: dict[str, Any], most: Tokens) -> CompletedAnswer:
        tries = 0
        while True:
            await self._hold()
            await self._reserve(most)
            dialect, sent = self._learned.dialect, time.monotonic()
            try:
                return await self._sent(messages, dialect.request(schema, most.completion), most)
            except Exception as error:
                failure = error
            # From here on no exception of the client, which holds the request, is the context of another one.
            if isinstance(failure, KommunaError):
                raise self._without_key(failure)
            fault = await self._negotiation.fault(failure, dialect)
            if fault is None:  # another dialect is known
                continue
            if isinstance(fault, KommunaError):
                raise self._without_key(fault)
            if fault.too_many:
                self._slots.refused(sent)
            tries += 1
            await self._wait(fault, tries)

    async def _probe(
        self, messages: Sequence[Message], schema: dict[str, Any], dialect: Dialect, most_tokens: int
    ) -> CompletedAnswer:
        """Sends a request of the negotiation once."""
        most = _most(messages, schema, most_tokens)
        await self._reserve(most)
        return await self._sent(messages, dialect.request(schema, most_tokens), most)

    async def _sent(self, messages: Sequence[Message], arguments: dict[str, Any], most: Tokens) -> CompletedAnswer:
        """Sends a request once and returns its answer."""
        body = await self._exchange(messages, arguments, most)
        self._learned.accepted = True
        self._slots.answered()
        return answer_of(body, self.endpoint)

    async def _exchange(self, messages: Sequence[Message], arguments: dict[str, Any], most: Tokens) -> dict[str, Any]:
        """Sends a request once and records what it used, whether it succeeds or fails."""
        used = Tokens(0, 0)
        try:
            await self.records.commit()
            await self.admit(self.spending.bill(most))
            used = most  # until the server says otherwise
            began = time.monotonic()
            # The client's own time-out is per read: a response that trickles in would never reach it.
            async with asyncio.timeout(self.endpoint.timeout_seconds):
                # Not by `chat.completions`, whose conversion of typed parameters takes a quarter of a request's time.
                sent = {"model": self.endpoint.model, "messages": messages, **arguments}
                body = completion(await self.client.post("/chat/completions", body=sent, cast_to=str))
            used = usage_of(body, most)
            self.spending.seconds.append(time.monotonic() - began)
            return body
        except KommunaError:
            raise
        except Exception as error:
            fault = classify(error, self.endpoint, self._key)
            if (isinstance(fault, Retry) and fault.billed) or isinstance(error, OversizedBody):
                self.spending.lost += 1
            else:
                used = Tokens(0, 0)
            raise
        finally:
            self.spending.settle(most, used)
            async with self._settled:
                self._settled.notify_all()

    async def _reserve(self, most: Tokens) -> None:
        """Waits until the request fits the budget together with the requests in flight.

        Raises:
            BudgetSpent, TeamBudgetSpent: it does not fit even alone.
        """
        allowance = self.spending.allowance
        if allowance is not None and allowance.is_old:
            await asyncio.to_thread(allowance.refresh)
        async with self._settled:
            while not self.spending.fits(most):
                if not self.spending.in_flight:
                    if allowance is not None and self.spending.fits_own(most):
                        raise allowance.spent(self.spending.bill(most), "the next request")
                    raise _spent(self.spending)
                await self._settled.wait()
            self.spending.reserve(most)

    async def admit(self, need: Billed) -> None:
        """Makes sure that the team's budgets have room for what is recorded, whatever other steps record meanwhile.

        Args:
            need: the most that the recorded requests are billed.

        Raises:
            TeamBudgetSpent: they have none; nothing must be sent.
        """
        allowance = self.spending.allowance
        if allowance is None:
            return
        recorded = time.monotonic()
        if allowance.is_old:
            await asyncio.to_thread(allowance.refresh)
        if allowance.admits(need):
            return
        await asyncio.sleep(team.FRESH_SECONDS)  # then no other step relies on figures without this record
        await asyncio.to_thread(allowance.refresh, since=recorded + team.FRESH_SECONDS)
        if allowance.exceeded:
            raise allowance.spent(need, "the next request")

    async def _hold(self) -> None:
        """Waits as long as the server has asked all requests to wait."""
        while (left := self._hold_until - time.monotonic()) > 0:
            await asyncio.sleep(left)

    async def _wait(self, fault: Retry, tries: int) -> None:
        """Waits before the next try.

        Raises:
            LlmUnreachable: there are no more tries, or the server asks to wait too long.
        """
        if tries >= self._retry_policy.tries:
            raise self._unreachable(fault, f"{tries} tries")
        if fault.pause is not None and fault.pause > self._retry_policy.longest:
            raise self._unreachable(fault, f"it asks to wait {fault.pause:.0f} seconds")
        await self._pause(fault, tries)

    async def _pause(self, fault: Retry, tries: int) -> None:
        self.spending.retries += 1
        wait = min(self._retry_policy.pause * 2 ** (tries - 1), self._retry_policy.longest)
        if fault.pause is not None:
            wait = max(wait, fault.pause)
            self._hold_until = max(self._hold_until, time.monotonic() + fault.pause)
        log.info("llm.retry", why=fault.what, tries=tries, seconds=round(wait, 2))
        await asyncio.sleep(wait * random.uniform(1.0, 1.25))

    def _masked(self, message: Message) -> Message:
        masked, kinds = self._outgoing.masked(message)
        if kinds:
            self.spending.masked += len(kinds)
            log.warning("llm.masked", kinds=sorted(set(kinds)), hint="the texts have personal data: run mask_pii first")
        return masked

    def _unreachable(self, fault: Retry, how: str) -> LlmUnreachable:
        return LlmUnreachable(
            f"the LLM endpoint {self.endpoint.url} does not answer: {fault.what} ({how})",
            where=f"model {self.endpoint.model}",
            fix="check that it is up and its `url` in kommuna.yaml; answers so far are kept: a retry requests the rest",
        )

    def _without_key(self, error: KommunaError) -> KommunaError:
        """Removes the key from the error's message, in case the server repeats it."""
        error.what = self._key.hidden(error.what)
        error.args = (error.what,)
        return error


@asynccontextmanager
async def session(
    endpoint: LlmEndpoint, spending: Spending, retry_policy: LlmRetryPolicy, learned: Learned
) -> AsyncIterator[Session]:
    """Opens a session and closes its connections at the end.

    Args:
        endpoint: URL, name and prices of the model.
        spending: what requests have used; updated by the session.
        retry_policy: how often and how long a request is retried.
        learned: what requests to the endpoint have shown; it outlives the session, too.

    Raises:
        LlmSettings: the environment variable with the endpoint's key is not set, or its value is not a key.
        NotInstalled: the `openai` package is not installed.
        StoreError: what requests are billed cannot be read or recorded.
    """
    with needed_by("asking an LLM"):
        import openai

    key = ApiKey.of(endpoint)
    await asyncio.to_thread(lambda: spending.total)  # reads what earlier attempts were billed
    client = openai.AsyncOpenAI(
        base_url=endpoint.url,
        api_key=key.header,
        max_retries=0,
        timeout=endpoint.timeout_seconds,
        http_client=http_client(endpoint),
    )
    async with client:
        opened = Session(endpoint, client, key, spending, retry_policy, learned)
        try:
            yield opened
        finally:
            await opened.records.commit()


def _most(messages: Sequence[Message], schema: dict[str, Any], most_tokens: int) -> Tokens:
    """Returns the most that a request may use: one token per byte of the prompt."""
    prompt = sum(len(message["content"].encode()) + _TOKENS_AROUND for message in messages)
    return Tokens(prompt + len(json.dumps(schema)), most_tokens)


def _spent(spending: Spending) -> BudgetSpent:
    budget, used = spending.budget, spending.total
    parts = [f"{budget.tokens} tokens"] if budget.tokens is not None else []
    parts += [f"{budget.money:g} of money"] if budget.money is not None else []
    return BudgetSpent(
        f"the budget of {' and '.join(parts)} is spent: {used.tokens} tokens, "
        f"{used.money:.4f} of money in {used.requests} requests",
        where=f"model {spending.endpoint.model}",
        fix="raise `budget`; answers so far are kept and not paid for again",
    )

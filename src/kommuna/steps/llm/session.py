"""`Session`: requests to one model from one event loop: how many at a time, tries, pauses, the budget."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from kommuna.errors import BudgetSpent, KommunaError, LlmAnswerError, LlmSettings, LlmUnreachable
from kommuna.extras import needed_by
from kommuna.spec.llm import LlmEndpoint
from kommuna.steps.etl.pii.masker import Masker
from kommuna.steps.llm.dialect import Dialect
from kommuna.steps.llm.faults import BrokenBody, TryAgain, message_of, understood
from kommuna.steps.llm.spending import Spending, Tokens

log = structlog.get_logger()

Message = Mapping[str, str]

_TOKENS_AROUND = 64  # of the chat template, for each message


@dataclass(frozen=True)
class Patience:
    """How long a request is tried.

    Args:
        tries: of one request.
        pause: seconds before the second try; each further pause is twice as long, and up to a quarter longer by chance.
        longest: seconds; a server that asks to wait longer is given up for now.
    """

    tries: int = 7
    pause: float = 0.5
    longest: float = 120.0


class Session:
    """Requests to one model from one event loop. Made by `session`.

    Args:
        endpoint: the model's.
        client: the `openai` client.
        spending: the tally, which outlives the session.
        patience: how long a request is tried.
        dialect: how the endpoint wants to be asked, as far as it is known.
    """

    def __init__(
        self, endpoint: LlmEndpoint, client: Any, spending: Spending, patience: Patience, dialect: Dialect
    ) -> None:
        self.endpoint = endpoint
        self.spending = spending
        self.dialect = dialect
        self._client = client
        self._patience = patience
        self._slots = asyncio.Semaphore(endpoint.concurrency)
        self._settled = asyncio.Condition()
        self._hold_until = 0.0
        self._masker = Masker((), "RU")

    async def complete_json(
        self, messages: Sequence[Message], schema: dict[str, Any], *, most_tokens: int
    ) -> dict[str, Any]:
        """One answer, forced into a JSON schema.

        Personal data that a message still holds is masked: this is the only way out to an LLM.

        Args:
            messages: role and content, masked.
            schema: JSON schema of the answer, an object.
            most_tokens: the longest answer.

        Raises:
            LlmAnswerError: refused, malformed, cut, or the prompt is too long.
            LlmUnreachable: no answer after all tries.
            LlmSettings: the key, the model or the request is refused.
            BudgetSpent: it might go past the budget; nothing was sent.
        """
        safe = [self._masked(message) for message in messages]
        read = sum(len(message["content"].encode()) + _TOKENS_AROUND for message in safe)
        most = Tokens(read + len(json.dumps(schema)), most_tokens)
        async with self._slots:
            return await self._tried(safe, schema, most)

    async def _tried(self, messages: list[Message], schema: dict[str, Any], most: Tokens) -> dict[str, Any]:
        patience = self._patience
        tries = 0
        while True:
            await self._hold()
            await self._reserve(most)
            dialect = self.dialect
            try:
                return await self._sent(messages, dialect.request(schema, most.written), most)
            except KommunaError:
                raise
            except Exception as error:
                if await self._speaks_otherwise(error, dialect):
                    continue
                fault = understood(error, self.endpoint)
                if isinstance(fault, KommunaError):
                    raise self._without_key(fault) from None
                tries += 1
                if tries >= patience.tries:
                    raise self._given_up(fault, f"{tries} tries") from None
                if fault.pause is not None and fault.pause > patience.longest:
                    raise self._given_up(fault, f"it asks to wait {fault.pause:.0f} seconds") from None
                await self._pause(fault, tries)

    async def _sent(self, messages: list[Message], arguments: dict[str, Any], most: Tokens) -> dict[str, Any]:
        """Sends a request once and books it, whatever comes of it."""
        used = Tokens(0, 0)
        began = time.monotonic()
        try:
            async with asyncio.timeout(self.endpoint.timeout_seconds):  # a slow drip never times out by itself
                raw = await self._client.chat.completions.with_raw_response.create(
                    model=self.endpoint.model, messages=messages, **arguments
                )
                body = _body(raw.text)
            used = _used(body) or most
            self.spending.seconds.append(time.monotonic() - began)
            return _answer(body, self.endpoint)
        except Exception as error:
            fault = None if isinstance(error, KommunaError) else understood(error, self.endpoint)
            if isinstance(fault, TryAgain) and fault.billed:
                used = most
                self.spending.lost += 1
            raise
        finally:
            self.spending.settle(most, used)
            async with self._settled:
                self._settled.notify_all()

    async def _reserve(self, most: Tokens) -> None:
        """Waits until the request fits the budget beside what is in flight.

        Raises:
            BudgetSpent: it does not fit even by itself.
        """
        async with self._settled:
            while not self.spending.fits(most):
                if not self.spending.in_flight:
                    raise _spent(self.spending)
                await self._settled.wait()
            self.spending.reserve(most)

    async def _hold(self) -> None:
        """Waits while the server has asked everyone to wait."""
        while (left := self._hold_until - time.monotonic()) > 0:
            await asyncio.sleep(left)

    async def _pause(self, fault: TryAgain, tries: int) -> None:
        self.spending.retries += 1
        wait = min(self._patience.pause * 2 ** (tries - 1), self._patience.longest)
        if fault.pause is not None:
            wait = max(wait, fault.pause)
            self._hold_until = max(self._hold_until, time.monotonic() + fault.pause)
        log.info("llm.retry", why=self._hidden(fault.what), tries=tries, seconds=round(wait, 2))
        await asyncio.sleep(wait * random.uniform(1.0, 1.25))

    async def _speaks_otherwise(self, error: Exception, dialect: Dialect) -> bool:
        """Whether the refused spelling has another, which is taken from now on."""
        if getattr(error, "status_code", 0) not in (400, 422, 500):  # llama-cpp-python answers 500
            return False
        if dialect != self.dialect:  # another request has learned it meanwhile
            return True
        other = dialect.after_refusal(f"{message_of(error)} {getattr(error, 'body', '')}")
        if other is None:
            return False
        log.info("llm.dialect", url=self.endpoint.url, dialect=str(other))
        self.dialect = other
        return True

    def _masked(self, message: Message) -> Message:
        content, kinds = self._masker.mask(message["content"])
        if kinds:
            self.spending.masked += len(kinds)
            log.warning("llm.masked", kinds=sorted(set(kinds)), hint="texts were not masked before: use mask_pii")
        return {"role": message["role"], "content": content}

    def _given_up(self, fault: TryAgain, how: str) -> LlmUnreachable:
        return LlmUnreachable(
            f"the LLM endpoint {self.endpoint.url} gives no answer: {self._hidden(fault.what)} ({how})",
            where=f"model {self.endpoint.model}",
            fix="check that it is up and its `url` in kommuna.yaml; what was answered is kept, a retry asks the rest",
        )

    def _without_key(self, error: KommunaError) -> KommunaError:
        """The error, where the server repeats the key: without it."""
        error.what = self._hidden(error.what)
        error.args = (error.what,)
        return error

    def _hidden(self, text: str) -> str:
        key = os.environ.get(self.endpoint.key_variable, "") if self.endpoint.key_variable else ""
        return text.replace(key, "***") if key else text


@asynccontextmanager
async def session(
    endpoint: LlmEndpoint, spending: Spending, patience: Patience, dialect: Dialect
) -> AsyncIterator[Session]:
    """A session, whose connections are closed at the end.

    Raises:
        LlmSettings: the environment variable with the endpoint's key is not set.
        NotInstalled: the client is not.
    """
    with needed_by("asking an LLM"):
        import openai

    client = openai.AsyncOpenAI(
        base_url=endpoint.url, api_key=_key(endpoint), max_retries=0, timeout=endpoint.timeout_seconds
    )
    async with client:
        yield Session(endpoint, client, spending, patience, dialect)


def _key(endpoint: LlmEndpoint) -> str:
    if not endpoint.key_variable:
        return "none"
    key = os.environ.get(endpoint.key_variable, "")
    if not key:
        raise LlmSettings(
            f"the LLM's API key is not set: there is no environment variable {endpoint.key_variable}",
            where=endpoint.url,
            fix="set it where the step runs, or correct `key_variable` of the endpoint in kommuna.yaml",
        )
    return key


def _spent(spending: Spending) -> BudgetSpent:
    budget = spending.budget
    parts = [f"{budget.tokens} tokens"] if budget.tokens is not None else []
    parts += [f"{budget.money:g} of money"] if budget.money is not None else []
    return BudgetSpent(
        f"the budget of {' and '.join(parts)} is spent: {spending.read + spending.written} tokens, "
        f"{spending.cost:.4f} of money in {spending.requests} requests",
        where=f"model {spending.endpoint.model}",
        fix="raise `budget`; what was answered is kept and not paid again",
    )


def _body(text: str) -> dict[str, Any]:
    try:
        body = json.loads(text)
        if not isinstance(body["choices"][0]["message"], dict):
            raise TypeError
    except (ValueError, KeyError, TypeError, IndexError):
        raise BrokenBody from None
    return dict(body)


def _used(body: dict[str, Any]) -> Tokens | None:
    """The tokens that the server counted; None where it does not say."""
    try:
        return Tokens(int(body["usage"]["prompt_tokens"]), int(body["usage"]["completion_tokens"]))
    except (KeyError, TypeError, ValueError):
        return None


def _answer(body: dict[str, Any], endpoint: LlmEndpoint) -> dict[str, Any]:
    """The JSON object that the model wrote."""
    choice = body["choices"][0]
    message, finish = choice["message"], choice.get("finish_reason")
    if message.get("refusal") or finish == "content_filter":
        said = message.get("refusal") or "content filter"
        raise LlmAnswerError(f"the model refuses: {said}", reason="refused", where=endpoint.model)
    if finish == "length":
        raise LlmAnswerError("the answer is cut: it is too long", reason="cut", where=endpoint.model)
    try:
        answer = json.loads(message.get("content") or "", object_pairs_hook=_one_value_each)
    except ValueError as error:
        raise LlmAnswerError(f"the answer is no JSON: {error}", reason="malformed", where=endpoint.model) from None
    if not isinstance(answer, dict):
        raise LlmAnswerError("the answer is no JSON object", reason="malformed", where=endpoint.model)
    return answer


def _one_value_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; Python would silently keep the last of two values."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found and found[name] != value:
            raise LlmAnswerError(f"the answer contradicts itself about '{name}'", reason="contradictory")
        found[name] = value
    return found

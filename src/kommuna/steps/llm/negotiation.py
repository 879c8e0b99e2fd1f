"""`Negotiation`: finds out whether an endpoint rejects one request, all requests, or only their form."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from kommuna.errors import KommunaError, LlmAnswerError
from kommuna.spec.llm import LlmEndpoint
from kommuna.steps.llm.dialect import Dialect, variants
from kommuna.steps.llm.faults import ErrorResponse, Rejection, Retry, classify
from kommuna.steps.llm.key import ApiKey

log = structlog.get_logger()

_FORM_STATUS = (400, 422, 500)  # of a request with a parameter that the endpoint does not accept

# A request without any client's words: what an error to it says is about the endpoint.
PROBE = [{"role": "user", "content": 'Answer with this JSON: {"ok": "yes"}'}]
PROBE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"ok": {"type": "string", "enum": ["yes", "no"]}},
    "required": ["ok"],
    "additionalProperties": False,
}
PROBE_TOKENS = 16

Send = Callable[[Sequence[Mapping[str, str]], dict[str, Any], Dialect, int], Awaitable[object]]


@dataclass
class Learned:
    """What requests to one endpoint have shown. It outlives a session.

    Attributes:
        dialect: the request parameters that the endpoint accepts, as far as known.
        accepted: whether a request in this dialect was answered.
    """

    dialect: Dialect = field(default_factory=Dialect)
    accepted: bool = False


class Negotiation:
    """Decides what an endpoint's errors are about.

    An error may name a parameter in its fields. Its text decides nothing, since it may repeat a client's message: as
    long as no request was answered, a request without any client's words is sent instead (a probe).

    Args:
        endpoint: the endpoint.
        learned: what is known of it; updated.
        key: its key, which no message shows.
        send: sends a request once: messages, JSON schema, dialect, and the most tokens of an answer.
    """

    def __init__(self, endpoint: LlmEndpoint, learned: Learned, key: ApiKey, send: Send) -> None:
        self._endpoint = endpoint
        self._key = key
        self._learned = learned
        self._send = send
        self._lock = asyncio.Lock()
        self._rejected: KommunaError | None = None  # the error that every request gets
        self._probed_500 = False

    async def fault(self, error: Exception, dialect: Dialect) -> Retry | KommunaError | None:
        """Returns the retry or the error that an exception stands for; None if the dialect has changed since.

        Args:
            error: the exception of a request.
            dialect: the dialect of the request.
        """
        fault, response = classify(error, self._endpoint, self._key), ErrorResponse.of(error, self._key)
        if isinstance(fault, KommunaError) or not fault.unclear or response is None:
            return fault.of_one if isinstance(fault, Rejection) else fault
        async with self._lock:
            if dialect != self._learned.dialect:  # another request has switched meanwhile
                return None
            other = dialect.without(response.parameter) if response.status in (*_FORM_STATUS, 403) else None
            if other is not None:
                self._switch(other, why=response.parameter)
                return None
            if self._worth_a_probe(fault):
                rejected = self._rejected or await self._probe()
                if rejected is not None or dialect != self._learned.dialect:
                    return rejected
        return fault.of_one if isinstance(fault, Rejection) else fault

    async def responds(self) -> bool:
        """Returns whether the endpoint has answered a request, or answers a probe."""
        async with self._lock:
            return self._learned.accepted or await self._probe() is None

    def _worth_a_probe(self, fault: Retry | Rejection) -> bool:
        """Returns whether it is unknown if requests in this dialect are answered; status 500 is probed only once."""
        if self._learned.accepted or (isinstance(fault, Retry) and self._probed_500):
            return False
        self._probed_500 = self._probed_500 or isinstance(fault, Retry)
        return True

    async def _probe(self) -> Retry | KommunaError | None:
        """Finds a dialect that the endpoint accepts.

        Returns:
            None if there is one; else the error of all requests, or the fault after which to try again.
        """
        tried: list[Dialect] = []
        dialect: Dialect | None = self._learned.dialect
        first: Retry | KommunaError | None = None
        while dialect is not None:
            tried.append(dialect)
            try:
                await self._send(PROBE, PROBE_SCHEMA, dialect, PROBE_TOKENS)
            except LlmAnswerError:
                pass  # it is an answer nevertheless
            except KommunaError:
                raise
            except Exception as error:
                fault = classify(error, self._endpoint, self._key)
                first = first or (fault.of_all if isinstance(fault, Rejection) else fault)
                dialect = self._next(ErrorResponse.of(error, self._key), fault, dialect, tried)
                continue
            if dialect != self._learned.dialect:
                self._switch(dialect, why="a probe was answered")
            self._learned.accepted = True
            return None
        self._rejected = first if isinstance(first, KommunaError) else None
        return first

    def _next(
        self,
        response: ErrorResponse | None,
        fault: Retry | Rejection | KommunaError,
        dialect: Dialect,
        tried: Sequence[Dialect],
    ) -> Dialect | None:
        """Returns the dialect of the next probe: without what the error names, or any other one."""
        if isinstance(fault, KommunaError) or response is None or response.status not in (*_FORM_STATUS, 403):
            return None
        named = dialect.without(f"{response.parameter} {response.message}")
        if named is not None and named not in tried:
            return named
        if dialect.logprobs:  # what can be missed most easily
            return replace(dialect, logprobs=False)
        left = [other for other in variants() if other not in tried]
        return left[0] if left and response.status not in (403, 500) else None

    def _switch(self, dialect: Dialect, *, why: str) -> None:
        was = self._learned.dialect
        log.warning("llm.dialect", url=self._endpoint.url, was=str(was), now=str(dialect), why=why)
        self._learned.dialect, self._learned.accepted = dialect, False

"""What an endpoint supports, found out by a few harmless requests."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from kommuna.errors import KommunaError, LlmAnswerError
from kommuna.spec.llm import LlmEndpoint
from kommuna.steps.llm.client import Model, run_sync
from kommuna.steps.llm.response import has_logprobs
from kommuna.steps.llm.session import LlmRetryPolicy

# The schema asks for a word that the prompt does not mention: only a server that applies the schema answers so.
_MESSAGES = [{"role": "user", "content": "Say hello, as JSON."}]
_ANSWER = {"word": "kommuna"}
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"word": {"type": "string", "enum": list(_ANSWER.values())}},
    "required": ["word"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Capabilities:
    """What one model behind an endpoint supports.

    Attributes:
        seconds: the time of one short answer.
        listed: whether the endpoint lists the model; None: it lists no models.
        structured: whether answers conform to a JSON schema.
        form: how the schema is sent, see `Dialect.form`.
        seeds: whether a seed is accepted.
        logprobs: whether answers have the probabilities of their tokens.
        batches: whether the endpoint has OpenAI's batches.
    """

    seconds: float
    listed: bool | None
    structured: bool
    form: str
    seeds: bool
    logprobs: bool
    batches: bool


def capabilities_of(endpoint: LlmEndpoint) -> Capabilities:
    """Asks an endpoint what it supports: five short requests, none with a client's words.

    Args:
        endpoint: the endpoint.

    Raises:
        LlmSettings: the endpoint rejects the key, the model or the request.
        LlmUnreachable: it does not answer.
    """
    return run_sync(_capabilities(Model(endpoint, retry_policy=LlmRetryPolicy(tries=2))))


async def _capabilities(model: Model) -> Capabilities:
    async with model.session() as session:
        began = time.monotonic()
        try:
            answer = await session.complete_json(_MESSAGES, _SCHEMA, most_tokens=32)
        except LlmAnswerError:
            answer = {}
        seconds = time.monotonic() - began
        names = await session.model_names()
        return Capabilities(
            seconds=seconds,
            listed=None if names is None else model.endpoint.model in names,
            structured=answer == _ANSWER,
            form=session.dialect.form,
            seeds=await session.probe(seed=0) is not None,
            logprobs=(body := await session.probe(logprobs=True)) is not None and has_logprobs(body),
            batches=await session.has_batches(),
        )


def check_endpoint(endpoint: LlmEndpoint) -> Capabilities | KommunaError:
    """Returns what an endpoint supports, or why it cannot be used."""
    try:
        return capabilities_of(endpoint)
    except KommunaError as error:
        return error

"""Classifies an endpoint's errors: retry the request, or raise an error with a remedy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from kommuna.errors import KommunaError, LlmAnswerError, LlmSettings, LlmUnreachable
from kommuna.spec.llm import LlmEndpoint

_TOO_LONG = re.compile(
    r"context.?(length|window|size)|maximum (context|prompt|input)|(prompt|input|request) (is )?too (long|large)"
    r"|too many tokens|exceeds? the (available )?(context|model)",
    re.IGNORECASE,
)
_FILTERED = re.compile(r"content.?(filter|policy|management)", re.IGNORECASE)


@dataclass(frozen=True)
class Retry:
    """A transient fault, after which the request is retried.

    Attributes:
        what: one line that describes the fault.
        pause: seconds that the server asks to wait; None if it does not say.
        billed: whether the server may have billed an answer that was lost.
    """

    what: str
    pause: float | None = None
    billed: bool = False


class BrokenBody(Exception):
    """The body of a response is not the JSON of a completion."""


def classify(error: Exception, endpoint: LlmEndpoint) -> Retry | KommunaError:
    """Returns the retry or the error that an exception of the `openai` client stands for."""
    import openai

    if isinstance(error, TimeoutError | openai.APITimeoutError):
        return Retry(f"no complete answer within {endpoint.timeout_seconds:g} seconds", billed=True)
    if isinstance(error, BrokenBody):
        return Retry("the response is not the JSON of a completion", billed=True)
    if isinstance(error, openai.APIConnectionError):
        cause = _first_line(error.__cause__ or error)
        return Retry(cause, billed=not re.search(r"connect(ion)? .*(failed|refused)|attempts failed", cause))
    if not isinstance(error, openai.APIStatusError):
        return LlmUnreachable(
            f"the LLM endpoint {endpoint.url} failed: {type(error).__name__}: {_first_line(error)}", where=endpoint.url
        )
    message = f"{error.status_code}: {message_of(error)}"
    if error.status_code in (408, 409, 425, 429) or error.status_code >= 500:
        if error.status_code == 429 and "insufficient_quota" in str(error.body):
            return LlmSettings(
                f"the LLM account has no quota left: {message}", where=endpoint.url, fix="add credit to the account"
            )
        return Retry(message, pause=retry_after(dict(error.response.headers)))
    return _refusal(error, message, endpoint)


def _refusal(error: Any, message: str, endpoint: LlmEndpoint) -> KommunaError:
    """Returns the error for an HTTP status that a retry does not fix."""
    if error.status_code in (401, 403):
        key = f"the key in {endpoint.key_variable}" if endpoint.key_variable else "a request without a key"
        return LlmSettings(
            f"the LLM endpoint rejects {key}: {message}",
            where=endpoint.url,
            fix="put a valid key into the environment variable that `key_variable` of the endpoint names",
        )
    if error.status_code == 404 or "model_not_found" in str(error.body):
        return LlmSettings(
            f"the LLM endpoint has no model '{endpoint.model}': {message}",
            where=endpoint.url,
            fix="check `model` and `url` of the endpoint in kommuna.yaml (the URL usually ends in /v1)",
        )
    if error.status_code == 413 or _TOO_LONG.search(message) or "context_length_exceeded" in str(error.body):
        return LlmAnswerError(f"the prompt is too long for the model: {message}", reason="too_long", where=endpoint.url)
    if _FILTERED.search(f"{message} {error.body}"):
        return LlmAnswerError(f"the endpoint rejects the content: {message}", reason="refused", where=endpoint.url)
    return LlmSettings(
        f"the LLM endpoint rejects the request: {message}",
        where=endpoint.url,
        fix="check that the model accepts chat completions with a JSON schema as response_format",
    )


def message_of(error: Any) -> str:
    """Returns the message in an error's body, cut to 300 characters."""
    body = error.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        message = inner.get("message", inner) if isinstance(inner, dict) else inner
    else:
        message = body or error
    text = " ".join(str(message).split())
    return text if len(text) <= 300 else f"{text[:299]}…"


def retry_after(headers: dict[str, str]) -> float | None:
    """Returns the seconds that a `Retry-After` header asks for, as a number or a date; None without one."""
    headers = {name.lower(): value for name, value in headers.items()}
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        value = headers.get("retry-after")
        return None if value is None else max(0.0, float(value))
    except ValueError:
        pass
    try:
        from datetime import UTC, datetime

        until = parsedate_to_datetime(headers["retry-after"])
        return max(0.0, (until - datetime.now(UTC)).total_seconds())
    except (KeyError, ValueError, TypeError):
        return None


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__

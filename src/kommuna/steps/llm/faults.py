"""Classifies an endpoint's errors: retry the request, raise an error with a remedy, or find out what is rejected."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from kommuna.errors import KommunaError, LlmAnswerError, LlmSettings, LlmUnreachable
from kommuna.spec.llm import LlmEndpoint
from kommuna.steps.llm.bounded import OversizedBody
from kommuna.steps.llm.key import ApiKey
from kommuna.steps.llm.response import BrokenBody, ErrorBody

# Codes and types of errors. The text of an error may repeat a client's message, so it decides nothing but the name of
# the reason that one answer has failed for.
_NO_CREDIT = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_WRONG_KEY = {"invalid_api_key", "authentication_error", "incorrect_api_key_provided"}
_NO_MODEL = {"model_not_found"}
_TOO_LONG = {"context_length_exceeded", "exceed_context_size_error", "string_above_max_length"}
_FILTERED = re.compile(r"content.?(filter|policy|management)|moderation|inspection|policy.?violation|unsafe")
_TOO_LONG_TEXT = re.compile(
    r"context.?(length|window|size)|maximum (context|prompt|input)|(prompt|input|request) (is )?too (long|large)"
    r"|too many tokens|exceeds? the (available )?(context|model)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Retry:
    """A transient fault, after which the request is retried.

    Attributes:
        what: one line that describes the fault.
        pause: seconds that the server asks to wait; None if it does not say.
        billed: whether the server may have billed an answer that was lost.
        unclear: whether the endpoint may reject the form of all requests.
        too_many: whether the server was sent too many requests.
    """

    what: str
    pause: float | None = None
    billed: bool = False
    unclear: bool = False
    too_many: bool = False


@dataclass(frozen=True)
class Rejection:
    """A rejection that may be about the request's messages, or about what all requests have in common.

    Attributes:
        of_all: the error if the endpoint rejects all requests.
        of_one: the error if it rejects this request only.
        unclear: always true.
    """

    of_all: KommunaError
    of_one: LlmAnswerError
    unclear: bool = True


@dataclass(frozen=True)
class ErrorResponse:
    """An error that an endpoint has sent.

    Attributes:
        status: the HTTP status; for an error with status 200 the one that its body names, or 200.
        message: its text, which may repeat a client's message.
        codes: its code and type, in lower case.
        parameter: the parameters that its fields name, not its text; empty without such fields.
        pause: seconds that the server asks to wait; None if it does not say.
    """

    status: int
    message: str
    codes: frozenset[str]
    parameter: str = ""
    pause: float | None = None

    @classmethod
    def of(cls, error: Exception, key: ApiKey) -> ErrorResponse | None:
        """Returns the error response of an exception; None if the exception stands for something else."""
        import openai

        if isinstance(error, ErrorBody):
            body, status, pause = error.body, 200, None
        elif isinstance(error, openai.APIStatusError):
            body, status, pause = error.body, error.status_code, retry_after(dict(error.response.headers))
        else:
            return None
        inner = body.get("error", body) if isinstance(body, dict) else body
        fields = inner if isinstance(inner, dict) else {}
        named = fields.get("code")
        if status == 200 and str(named).isdecimal() and 400 <= int(str(named)[:4]) < 600:
            status = int(str(named))
        message, parameter = _message(inner or str(error), key), key.hidden(_parameter(fields))
        return cls(status, message, _codes(fields), parameter, pause)


def classify(error: Exception, endpoint: LlmEndpoint, key: ApiKey) -> Retry | Rejection | KommunaError:
    """Returns the retry, the rejection or the error that an exception of a request stands for; none shows the key."""
    import openai

    if isinstance(error, TimeoutError | openai.APITimeoutError):
        return Retry(f"no complete answer within {endpoint.timeout_seconds:g} seconds", billed=True)
    if isinstance(error, BrokenBody):
        return Retry("the response is not the JSON of a completion", billed=True)
    if isinstance(error, OversizedBody):
        return LlmAnswerError(str(error), reason="malformed", where=endpoint.url)
    if isinstance(error, openai.APIConnectionError):
        cause = key.hidden(_first_line(error.__cause__ or error))
        return Retry(cause, billed=not re.search(r"connect(ion)? .*(failed|refused)|attempts failed", cause))
    response = ErrorResponse.of(error, key)
    if response is None:
        return LlmUnreachable(
            f"the LLM endpoint {endpoint.url} failed: {type(error).__name__}: {key.hidden(_first_line(error))}",
            where=endpoint.url,
        )
    return _known(response, endpoint) or _by_status(response, endpoint)


def _known(response: ErrorResponse, endpoint: LlmEndpoint) -> KommunaError | None:
    """Returns the error for a status or a code with one meaning only; None without one."""
    said = f"{response.status}: {response.message}"
    if 300 <= response.status < 400:
        return LlmSettings(
            f"the LLM endpoint redirects to another address ({response.status}): no text is sent there",
            where=endpoint.url,
            fix="put the address that answers into `url` of the endpoint in kommuna.yaml",
        )
    if response.status == 402 or response.codes & _NO_CREDIT:
        return LlmSettings(
            f"the LLM account has no credit left: {said}", where=endpoint.url, fix="add credit to the account"
        )
    if response.status == 401 or response.codes & _WRONG_KEY:
        return _wrong_key(said, endpoint)
    if response.status == 404 or response.codes & _NO_MODEL:
        return LlmSettings(
            f"the LLM endpoint has no model '{endpoint.model}': {said}",
            where=endpoint.url,
            fix="check `model` and `url` of the endpoint in kommuna.yaml (the URL usually ends in /v1)",
        )
    if response.status == 413 or response.codes & _TOO_LONG:
        return LlmAnswerError(f"the prompt is too long for the model: {said}", reason="too_long", where=endpoint.url)
    if any(_FILTERED.search(code) for code in response.codes):
        return LlmAnswerError(f"the endpoint rejects the content: {said}", reason="refused", where=endpoint.url)
    return None


def _by_status(response: ErrorResponse, endpoint: LlmEndpoint) -> Retry | Rejection:
    """Returns what an error stands for whose codes do not say."""
    status, said = response.status, f"{response.status}: {response.message}"
    if status == 200:
        return Retry(f"an error with status 200: {response.message}")
    if status in (408, 409, 425, 429) or status >= 500:
        # llama-cpp-python rejects a form by 500
        return Retry(said, pause=response.pause, unclear=status == 500, too_many=status == 429)
    reason = "too_long" if _TOO_LONG_TEXT.search(response.message) else "refused"
    of_one = LlmAnswerError(f"the endpoint rejects a message: {said}", reason=reason, where=endpoint.url)
    if status == 403:
        return Rejection(_wrong_key(said, endpoint), of_one)
    return Rejection(
        LlmSettings(
            f"the LLM endpoint rejects the request: {said}",
            where=endpoint.url,
            fix="check that the model accepts chat completions; the docs list the parameters that are tried",
        ),
        of_one,
    )


def _wrong_key(said: str, endpoint: LlmEndpoint) -> LlmSettings:
    key = f"the key in {endpoint.key_variable}" if endpoint.key_variable else "a request without a key"
    return LlmSettings(
        f"the LLM endpoint rejects {key}: {said}",
        where=endpoint.url,
        fix="put a valid key into the environment variable that `key_variable` of the endpoint names",
    )


def _codes(fields: dict[str, Any]) -> frozenset[str]:
    """Returns the codes and types that an error's fields give."""
    inner = fields.get("innererror")
    metadata = fields.get("metadata")
    given = [fields.get("code"), fields.get("type"), inner.get("code") if isinstance(inner, dict) else None]
    if isinstance(metadata, dict) and "flagged_input" in metadata:
        given.append("moderation")
    return frozenset(value.lower() for value in given if isinstance(value, str))


def _parameter(fields: dict[str, Any]) -> str:
    """Returns the parameters that an error's fields name: OpenAI's `param`, or FastAPI's places."""
    places = fields.get("detail")
    named = [fields["param"]] if isinstance(fields.get("param"), str) else []
    for place in places if isinstance(places, list) else []:
        where = place.get("loc") if isinstance(place, dict) else None
        # a place of a body is the names of fields from the root: the first one is the parameter
        named += [str(part) for part in where[:2]] if isinstance(where, list) else []
    return " ".join(named)


def _message(inner: Any, key: ApiKey) -> str:
    """Returns an error's text in one line, without the key, then cut to 300 characters."""
    message = inner.get("message", inner) if isinstance(inner, dict) else inner
    text = " ".join(key.hidden(str(message)).split())
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

"""Reads the responses of an endpoint: the body of a completion, its usage, and the JSON of the model's answer."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

from kommuna.errors import LlmAnswerError
from kommuna.spec.llm import LlmEndpoint
from kommuna.steps.llm.spending import Tokens

_MOST_COUNT = 10**12  # tokens; a larger count is not one
_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL | re.IGNORECASE)
_BLANK = re.compile(r"\s*")
_COLON = re.compile(r"\s*:\s*")
_NEXT = re.compile(r"\s*([,}])\s*")


class BrokenBody(Exception):
    """The body of a response is not the JSON of a completion."""


class ErrorBody(Exception):
    """The body of a response with status 200 is an error.

    Attributes:
        body: the value of its `error`.
    """

    def __init__(self, body: Any) -> None:
        super().__init__("an error with status 200")
        self.body = body


@dataclass(frozen=True)
class CompletedAnswer:
    """A model's answer.

    Attributes:
        json: the JSON object.
        tokens: the text and the log probability of each token of the answer; empty if the server gives none.
    """

    json: dict[str, Any]
    tokens: tuple[tuple[str, float], ...] = ()


def completion(text: str) -> dict[str, Any]:
    """Parses the body of a completion.

    Args:
        text: the body.

    Raises:
        ErrorBody: it is an error.
        BrokenBody: it is anything else.
    """
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise BrokenBody from None
    return checked_completion(body)


def checked_completion(body: Any) -> dict[str, Any]:
    """Returns the body of a completion, which may be anything that JSON can hold.

    Args:
        body: the parsed body.

    Raises:
        ErrorBody: it is an error.
        BrokenBody: it is anything else.
    """
    try:
        if body.get("error") and not body.get("choices"):
            raise ErrorBody(body["error"])
        choice = body["choices"][0]
        if choice.get("error"):
            raise ErrorBody(choice["error"])
        if not isinstance(choice["message"], dict):
            raise BrokenBody
    except (KeyError, TypeError, IndexError, AttributeError):
        raise BrokenBody from None
    return dict(body)


def usage_of(body: dict[str, Any], most: Tokens) -> Tokens:
    """Returns the tokens that the server counted; where its count is none, the most that the request may use.

    Args:
        body: the body of a completion.
        most: the most that the request may use.
    """
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    prompt = _count(usage.get("prompt_tokens")) or most.prompt
    completion = _count(usage.get("completion_tokens")) or most.completion
    return Tokens(prompt, max(completion, _count(usage.get("total_tokens")) - prompt))


def _count(value: Any) -> int:
    """Returns a count of tokens; 0 where it is missing, negative, infinite or not a number."""
    is_count = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _MOST_COUNT
    return math.ceil(value) if is_count else 0


def answer_of(body: dict[str, Any], endpoint: LlmEndpoint) -> CompletedAnswer:
    """Returns the model's answer, a JSON object.

    Args:
        body: the body of a completion.
        endpoint: the model that answered.

    Raises:
        LlmAnswerError: the answer is a refusal, truncated, malformed or contradictory.
    """
    choice = body["choices"][0]
    message, finish = choice["message"], choice.get("finish_reason")
    if message.get("refusal") or finish == "content_filter":
        reason = message.get("refusal") or "content filter"
        raise LlmAnswerError(f"the model refuses: {reason}", reason="refused", where=endpoint.model)
    text = _text(message.get("content"))
    try:
        answer = json.loads(text, object_pairs_hook=_one_value_each)
    except (ValueError, RecursionError) as error:
        if finish == "length":
            raise LlmAnswerError(
                "the answer is truncated: it is too long",
                reason="cut",
                where=endpoint.model,
                usable=_complete_members(text),
            ) from None
        why = "too deep" if isinstance(error, RecursionError) else error
        raise LlmAnswerError(f"the answer is not JSON: {why}", reason="malformed", where=endpoint.model) from None
    if not isinstance(answer, dict):
        raise LlmAnswerError("the answer is not a JSON object", reason="malformed", where=endpoint.model)
    return CompletedAnswer(answer, _tokens(choice))


def has_logprobs(body: dict[str, Any]) -> bool:
    """Whether a completion has the log probabilities of its tokens."""
    return bool(_tokens(body["choices"][0]))


def _tokens(choice: dict[str, Any]) -> tuple[tuple[str, float], ...]:
    """Returns the tokens of an answer with their log probabilities; none unless each has one."""
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    found = []
    for token in content if isinstance(content, list) else ():
        text, logprob = (token.get("token"), token.get("logprob")) if isinstance(token, dict) else (None, None)
        if not isinstance(text, str) or not isinstance(logprob, int | float) or not logprob <= 0:  # NaN is not
            return ()
        found.append((text, float(logprob)))
    return tuple(found)


def _text(content: Any) -> str:
    """Returns the text of a message: a string, or a list of parts with texts; empty for anything else."""
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    if not isinstance(content, str):
        return ""
    fenced = _FENCE.fullmatch(content)
    return fenced[1] if fenced else content


def _complete_members(text: str) -> dict[str, Any]:
    """Returns the complete members of a truncated JSON object.

    >>> _complete_members('{"m1": {"q1": "yes"}, "m2": {"q1"')
    {'m1': {'q1': 'yes'}}
    """
    found: dict[str, Any] = {}
    read = json.JSONDecoder(object_pairs_hook=_one_value_each).raw_decode
    at = text.find("{") + 1
    try:
        while at:
            name, at = read(text, _after(_BLANK, text, at))
            value, at = read(text, _after(_COLON, text, at))
            at = _after(_NEXT, text, at)
            found[name] = value
    except (ValueError, TypeError, RecursionError):
        pass
    return found


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    if match is None:
        raise ValueError("something else")
    return match.end()


def _one_value_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Builds a JSON object; rejects a duplicate key with another value, of which Python would keep the last."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found and found[name] != value:
            raise LlmAnswerError(f"the answer contradicts itself about '{name}'", reason="contradictory")
        found[name] = value
    return found

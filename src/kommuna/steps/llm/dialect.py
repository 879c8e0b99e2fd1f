"""`Dialect`: which variant of the OpenAI API an endpoint accepts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

AnswerForm = Literal["json_schema", "json_object", "text"]

_FORMS: tuple[AnswerForm, ...] = ("json_schema", "json_object", "text")
_LENGTHS = ("max_tokens", "max_completion_tokens")


@dataclass(frozen=True)
class Dialect:
    """Describes the request parameters that one endpoint accepts.

    Newer models accept `max_completion_tokens` instead of `max_tokens`, and no `temperature`. llama-cpp-python
    accepts a JSON schema only as part of `json_object`; other servers accept none. Some models reject `logprobs`.

    Attributes:
        length: name of the parameter that limits the answer's tokens.
        temperature: whether `temperature` is sent.
        form: how the JSON schema is sent: by `json_schema`, as part of `json_object`, or not at all.
        logprobs: whether the log probabilities of the answer's tokens are requested; a server may still give none.
    """

    length: str = "max_tokens"
    temperature: bool = True
    form: AnswerForm = "json_schema"
    logprobs: bool = True

    def request(self, schema: dict[str, Any], most_tokens: int) -> dict[str, Any]:
        """Returns the arguments of a request besides model and messages."""
        arguments: dict[str, Any] = {self.length: most_tokens}
        if self.form == "json_schema":
            schema_of_answer = {"name": "answer", "strict": True, "schema": schema}
            arguments["response_format"] = {"type": "json_schema", "json_schema": schema_of_answer}
        elif self.form == "json_object":
            arguments["response_format"] = {"type": "json_object", "schema": schema}
        if self.logprobs:
            arguments["logprobs"] = True
        return arguments | ({"temperature": 0.0} if self.temperature else {})

    def without(self, named: str) -> Dialect | None:
        """Returns the variant to use instead after an endpoint has rejected a parameter; None if there is none.

        Args:
            named: the parameter that an error names. The text of an error may repeat a client's words, so it is only
                passed if the request had no such words.
        """
        named = named.lower()
        if self.logprobs and "logprobs" in named:
            return replace(self, logprobs=False)
        if self.length == "max_tokens" and ("max_tokens" in named or "max_completion_tokens" in named):
            return replace(self, length="max_completion_tokens")
        if self.temperature and "temperature" in named:
            return replace(self, temperature=False)
        if self.form != "text" and ("response_format" in named or "json_schema" in named):
            return replace(self, form=_FORMS[_FORMS.index(self.form) + 1])
        return None


def variants() -> Iterator[Dialect]:
    """Yields every variant without log probabilities, those that guarantee the form of answers first."""
    for form, temperature, length in product(_FORMS, (True, False), _LENGTHS):
        yield Dialect(length, temperature, form, logprobs=False)

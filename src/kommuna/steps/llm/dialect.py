"""`Dialect`: which variant of the OpenAI API an endpoint accepts, learned from its errors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Dialect:
    """Describes the request parameters that one endpoint accepts.

    Newer models accept `max_completion_tokens` instead of `max_tokens`, and no `temperature`. llama-cpp-python
    accepts a JSON schema only as part of `json_object`.

    Attributes:
        length: name of the parameter that limits the answer's tokens.
        temperature: whether `temperature` is sent.
        schema_in_object: whether the JSON schema is sent as part of `json_object`.
    """

    length: str = "max_tokens"
    temperature: bool = True
    schema_in_object: bool = False

    def request(self, schema: dict[str, Any], most_tokens: int) -> dict[str, Any]:
        """Returns the arguments of a request besides model and messages."""
        if self.schema_in_object:
            form: dict[str, Any] = {"type": "json_object", "schema": schema}
        else:
            form = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
        arguments = {"response_format": form, self.length: most_tokens}
        return arguments | ({"temperature": 0.0} if self.temperature else {})

    def after_refusal(self, message: str) -> Dialect | None:
        """Returns the variant to try next if an error message is about this one, otherwise None."""
        lower = message.lower()
        if self.length == "max_tokens" and "max_completion_tokens" in lower:
            return replace(self, length="max_completion_tokens")
        if self.temperature and "temperature" in lower:
            return replace(self, temperature=False)
        if not self.schema_in_object and ("response_format" in lower or "json_schema" in lower):
            return replace(self, schema_in_object=True)
        return None

"""`Dialect`: which of the API's spellings an endpoint takes, learned from what it refuses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Dialect:
    """How one endpoint wants to be asked.

    Servers differ in three things: newer models take `max_completion_tokens` and no `temperature`; llama-cpp-python
    knows a JSON schema only as part of `json_object`.
    """

    length: str = "max_tokens"
    temperature: bool = True
    schema_in_object: bool = False

    def request(self, schema: dict[str, Any], most_tokens: int) -> dict[str, Any]:
        """The arguments of a request besides model and messages."""
        if self.schema_in_object:
            form: dict[str, Any] = {"type": "json_object", "schema": schema}
        else:
            form = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
        arguments = {"response_format": form, self.length: most_tokens}
        return arguments | ({"temperature": 0.0} if self.temperature else {})

    def after_refusal(self, message: str) -> Dialect | None:
        """Another spelling, where an error message is about this one; else None."""
        said = message.lower()
        if self.length == "max_tokens" and "max_completion_tokens" in said:
            return replace(self, length="max_completion_tokens")
        if self.temperature and "temperature" in said:
            return replace(self, temperature=False)
        if not self.schema_in_object and ("response_format" in said or "json_schema" in said):
            return replace(self, schema_in_object=True)
        return None

"""Masks the personal data that a message to an LLM still contains."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from kommuna.steps.etl.pii.masker import Masker

Message = Mapping[str, str]


class Outgoing:
    """Masks messages, and counts what was left in them."""

    def __init__(self) -> None:
        # Of a prompt, all but the messages comes again with each request.
        self._mask = lru_cache(maxsize=1024)(Masker((), "RU").mask)

    def masked(self, message: Message) -> tuple[dict[str, str], list[str]]:
        """Returns a message without personal data, and the kinds of data that were found.

        In a content that is JSON each text and number is masked as its reader sees it, because escaped line breaks
        hide where a number goes on.

        Args:
            message: role and content.
        """
        content = message["content"]
        found: list[str] = []
        document = _document(content)
        if document is None:
            content, found = self._mask(content)
        else:
            document = self._document(document, found)
            if found:
                content = json.dumps(document, ensure_ascii=False, indent=1 if "\n" in content else None)
        return {"role": message["role"], "content": content}, found

    def _document(self, value: Any, found: list[str]) -> Any:
        if isinstance(value, list):
            return [self._document(item, found) for item in value]
        if isinstance(value, dict):
            return {self._document(name, found): self._document(item, found) for name, item in value.items()}
        if value is None or isinstance(value, bool):
            return value
        masked, kinds = self._mask(str(value))
        found += kinds
        return masked if kinds else value


def _document(content: str) -> Any:
    """Returns the parsed JSON of a content; None if it is not an object or a list."""
    if not content.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None

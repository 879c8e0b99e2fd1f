"""`ApiKey`: an endpoint's key, which no message shows, whole or in part, whatever form a server repeats it in."""

from __future__ import annotations

import base64
import os
import re
from functools import cached_property
from urllib.parse import quote, quote_plus

from kommuna.errors import LlmSettings
from kommuna.spec.llm import LlmEndpoint

_HEADER_VALUE = re.compile(r"[\x21-\x7e]+")
_SHOWN = 5  # so many characters of a key in a row may be a word
_MOST_TEXT = 20_000  # characters of a server's text that are searched; no message shows the rest


class ApiKey:
    """The key of one endpoint.

    Args:
        value: the key; empty: requests have none.
    """

    def __init__(self, value: str) -> None:
        self._value = value

    @classmethod
    def of(cls, endpoint: LlmEndpoint) -> ApiKey:
        """Reads the key from the endpoint's environment variable.

        Raises:
            LlmSettings: the variable is not set, or an HTTP header cannot hold its value; the message does not show it.
        """
        variable = endpoint.key_variable
        value = os.environ.get(variable, "") if variable else ""
        if variable and not value:
            raise LlmSettings(
                f"the LLM's API key is not set: there is no environment variable {variable}",
                where=endpoint.url,
                fix="set it where the step runs, or correct `key_variable` of the endpoint in kommuna.yaml",
            )
        if value and not _HEADER_VALUE.fullmatch(value):
            raise LlmSettings(
                f"the LLM's API key in {variable} cannot be sent: it has a line break, a space or a character that "
                "is not ASCII",
                where=endpoint.url,
                fix="store the key alone; a file or a secret often ends in a line break",
            )
        return cls(value)

    def __repr__(self) -> str:
        return "ApiKey(***)"

    @property
    def header(self) -> str:
        """The value to send; some servers need one although they check none."""
        return self._value or "none"

    def hidden(self, text: str) -> str:
        """Returns a text with `***` for the key and for every longer part of it.

        The key is found in any case, with separators between its characters, URL-encoded, in hexadecimal and in base64.

        Args:
            text: any text; at most its first 20,000 characters are returned.
        """
        text = text[:_MOST_TEXT]
        if not self._value:
            return text
        text = text.replace(self._value, "***")
        places = [at for at, char in enumerate(text) if char.isalnum()]
        plain = "".join(text[at].lower()[:1] for at in places)
        size = self._window
        struck = [at for at in range(len(plain) - size + 1) if plain[at : at + size] in self._parts]
        pieces, end = [], 0
        for at in struck:
            first, last = places[at], places[at + size - 1] + 1
            if first >= end:
                pieces += [text[end:first], "***"]
            end = max(end, last)
        return "".join([*pieces, text[end:]])

    @cached_property
    def _window(self) -> int:
        return max(1, min([_SHOWN + 1, *(len(form) for form in self._forms)]))

    @cached_property
    def _parts(self) -> frozenset[str]:
        size = self._window
        return frozenset(form[at : at + size] for form in self._forms for at in range(len(form) - size + 1))

    @cached_property
    def _forms(self) -> tuple[str, ...]:
        """The forms of the key by their letters and digits in lower case."""
        raw = self._value.encode()
        forms = [self._value, quote(self._value, safe=""), quote_plus(quote(self._value, safe="")), raw.hex()]
        for before in range(3):  # base64 of a text in which the key begins at any place
            encoded = base64.b64encode(b"\0" * before + raw)
            inner = encoded[4 if before else 0 : len(encoded) // 4 * 4 - 4] if len(encoded) > 8 else encoded
            forms += [inner.decode(), inner.translate(bytes.maketrans(b"+/", b"-_")).decode()]
        plain = ("".join(char.lower() for char in form if char.isalnum()) for form in forms)
        return tuple(dict.fromkeys(form for form in plain if form))

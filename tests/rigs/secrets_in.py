"""Finds secrets in what a run has written, in the forms that they take on the way."""

from __future__ import annotations

import base64
from collections.abc import Iterable

_WINDOW = 10  # characters of a secret that may not appear in a row


def secrets_in(written: Iterable[str], secrets: Iterable[str]) -> list[str]:
    """Returns the parts of secrets that the texts contain, whatever their case, and what stands between characters.

    Args:
        written: logs, files, messages.
        secrets: keys, numbers, addresses; they are looked for in base64, too.
    """
    texts = [_letters(text) for text in written]
    found = []
    for secret in secrets:
        for form in (_letters(secret), base64.b64encode(secret.encode()).decode().rstrip("=").lower()):
            parts = {form[i : i + _WINDOW] for i in range(max(1, len(form) - _WINDOW + 1))}
            found += [part for part in sorted(parts) if any(part in text for text in texts)]
    return found


def _letters(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())

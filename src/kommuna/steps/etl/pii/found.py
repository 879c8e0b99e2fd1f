"""A match in a text."""

from __future__ import annotations

from typing import NamedTuple


class Found(NamedTuple):
    """Personal data in a text: its characters `start` to `end`, and its kind."""

    start: int
    end: int
    kind: str

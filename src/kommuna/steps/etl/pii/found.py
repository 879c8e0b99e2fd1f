"""A match in a text."""

from __future__ import annotations

# Personal data in a text: the first character, the one after the last, and the kind. A tuple, since a named one takes
# ten times as long to make, and there are some for every message.
Found = tuple[int, int, str]

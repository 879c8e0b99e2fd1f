"""Notes that a step's process and its forked workers take of their own uses."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

HOSTS, NAMED, MODULES, SEARCHES = "hosts", "named", "modules", "searches"


class Notes:
    """Notes of several kinds: names, each with the value that was noted first.

    Args:
        file: where forked processes append their notes, because their memory is lost when they end.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._process = os.getpid()
        self._found: dict[str, dict[str, str]] = {}

    def note(self, kind: str, name: str, value: str = "") -> None:
        """Notes a name with a value. A name that was noted before keeps its value.

        Args:
            kind: `HOSTS`, `NAMED`, `MODULES` or `SEARCHES`.
            name: what is noted.
            value: what belongs to it; its meaning depends on the kind.
        """
        found = self._found.setdefault(kind, {})
        if name in found:
            return
        found[name] = value
        if os.getpid() != self._process:
            line = json.dumps([kind, name, value])
            with self._file.open("a", encoding="utf-8") as file:  # a worker may close inherited files
                file.write(f"{line}\n")

    def has(self, kind: str, name: str) -> bool:
        """Whether a name has been noted."""
        return name in self._found.get(kind, ())

    def of(self, kind: str) -> dict[str, str]:
        """Returns all notes of a kind: values by name."""
        with contextlib.suppress(FileNotFoundError):
            for line in self._file.read_text(encoding="utf-8").splitlines():
                self.note(*json.loads(line))
        return self._found.setdefault(kind, {})

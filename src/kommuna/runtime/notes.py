"""What a step's process notes of itself, together with what the processes note that it forks."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

HOSTS, NAMED, MODULES, SEARCHES = "hosts", "named", "modules", "searches"


class Notes:
    """Notes of several kinds, each a name and what there was by that name when it was noted first.

    Args:
        file: to which forked processes add theirs: they have the memory of this one, and lose it when they end.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._process = os.getpid()
        self._found: dict[str, dict[str, str]] = {}

    def note(self, kind: str, name: str, value: str = "") -> None:
        """Notes a thing. One that was noted before stays as it was."""
        found = self._found.setdefault(kind, {})
        if name in found:
            return
        found[name] = value
        if os.getpid() != self._process:
            line = json.dumps([kind, name, value])
            with self._file.open(
                "a", encoding="utf-8"
            ) as file:  # a file that is open already may be closed by a worker
                file.write(f"{line}\n")

    def has(self, kind: str, name: str) -> bool:
        """Whether a thing has been noted."""
        return name in self._found.get(kind, ())

    def of(self, kind: str) -> dict[str, str]:
        """All of a kind."""
        with contextlib.suppress(FileNotFoundError):
            for line in self._file.read_text(encoding="utf-8").splitlines():
                self.note(*json.loads(line))
        return self._found.setdefault(kind, {})

"""What `kommuna check` finds."""

from __future__ import annotations

from pathlib import Path

from kommuna.spec.base import Spec


class Finding(Spec):
    """One thing to mend in a bundle."""

    file: str
    line: int
    what: str
    mend: str = ""


class Findings(Spec):
    """All of a bundle's."""

    findings: tuple[Finding, ...]
    files: int
    dags: int
    steps: int


class Collector:
    """Takes down the findings of one bundle, each once, with its file's name relative to the bundle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._findings: dict[Finding, None] = {}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found so far."""
        return tuple(self._findings)

    def add(self, file: Path, line: int, what: str, mend: str = "") -> None:
        """Takes down one finding."""
        inside = file.is_relative_to(self.folder) and file != self.folder
        name = str(file.relative_to(self.folder)) if inside else str(file)
        self._findings[Finding(file=name, line=line, what=what, mend=mend)] = None


def line_of(text: str, name: str) -> int:
    """The first line that has a name, with or without the team's prefix; 1 where none has."""
    bare = name.partition("__")[2] or name
    return next((i for i, line in enumerate(text.splitlines(), 1) if name in line or f'"{bare}"' in line), 1)

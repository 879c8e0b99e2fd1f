"""The result of each attack: a line of build/e2e/attacks.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from tests.e2e.installation import BUILD


@dataclass(frozen=True)
class Line:
    """One attack, the layer that should refuse it, and what was seen."""

    attack: str
    layer: str
    refused: bool
    evidence: str


@dataclass
class Ledger:
    """All lines of a session."""

    lines: list[Line] = field(default_factory=list)

    def add(self, *lines: Line) -> None:
        """Adds lines; fails if an attack succeeded."""
        self.lines += lines
        open_doors = [line for line in lines if not line.refused]
        assert not open_doors, open_doors

    def write(self) -> None:
        """Writes all lines as JSON."""
        BUILD.mkdir(parents=True, exist_ok=True)
        (BUILD / "attacks.json").write_text(json.dumps([asdict(line) for line in self.lines], indent=1))

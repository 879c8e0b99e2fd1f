"""The result of each attack: a line of build/e2e/attacks.json."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.e2e.installation import BUILD


@dataclass(frozen=True)
class Line:
    """One attack, who made it, the layer that should refuse it, and what was seen.

    Attributes:
        attack: what was tried.
        by: `task`, `DAG`, `person` or `pod`.
        layer: what refuses it; a refusal by another layer counts as open.
        refused: whether it did.
        evidence: the answer, or the state afterwards.
    """

    attack: str
    by: str
    layer: str
    refused: bool
    evidence: str


def lines_of(by: str, found: Iterable[Mapping[str, Any]]) -> list[Line]:
    """Returns lines that code of a team has made of its own attempts."""
    return [Line(by=by, **one) for one in found]


@dataclass
class Ledger:
    """All lines of a session."""

    lines: list[Line] = field(default_factory=list)
    removed: dict[str, str] = field(default_factory=dict)

    def add(self, *lines: Line) -> None:
        """Adds lines; fails if an attack succeeded."""
        self.lines += lines
        open_doors = [line for line in lines if not line.refused]
        assert not open_doors, open_doors

    def red(self, control: str, *lines: Line) -> None:
        """Notes that a control was taken away; fails if one of its lines is still refused."""
        assert lines, control
        assert not [line for line in lines if line.refused], [line for line in lines if line.refused]
        self.removed[control] = f"{len(lines)} lines turned red"

    def write(self) -> None:
        """Writes all lines as JSON, and the controls that were taken away."""
        BUILD.mkdir(parents=True, exist_ok=True)
        (BUILD / "attacks.json").write_text(json.dumps([asdict(line) for line in self.lines], indent=1))
        (BUILD / "controls.json").write_text(json.dumps(self.removed, indent=1))

    def table(self) -> str:
        """Returns the number of refused and open lines by layer and actor."""
        counts = Counter((line.layer, line.by, line.refused) for line in self.lines)
        rows = sorted({(layer, by) for layer, by, _ in counts})
        found = [
            f"{layer:20} {by:8} {counts[layer, by, True]:4} refused {counts[layer, by, False]:3} open"
            for layer, by in rows
        ]
        found.append(f"{len(self.lines)} lines, {sum(not line.refused for line in self.lines)} open")
        return "\n".join([*found, *(f"without {control}: {how}" for control, how in self.removed.items())])

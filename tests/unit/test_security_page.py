"""The threat table of docs/security.md names tests that exist, and all of the attack suite."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def test_every_test_of_the_threat_table_exists() -> None:
    text = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| ") and "`tests/" in line]
    named = {path for *_, tests, _ in rows for path in re.findall(r"`(tests/[^`]+)`", tests)}
    assert len(rows) > 20
    assert {path for path in named if not (ROOT / path).is_file()} == set()
    attacks = {f"tests/e2e/attacks/{path.name}" for path in (ROOT / "tests/e2e/attacks").glob("test_*.py")}
    assert attacks <= named

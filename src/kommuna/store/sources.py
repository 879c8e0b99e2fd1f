"""Where the source of steps is, found without importing anything."""

from __future__ import annotations

from pathlib import Path

import kommuna


def source_roots(bundle: Path | None) -> list[Path]:
    """Where the source of steps is looked for: the team's bundle, then Kommuna."""
    return [root for root in (bundle, Path(kommuna.__file__).parent.parent) if root is not None]


def source_file(name: str, roots: list[Path]) -> Path | None:
    """The file of a module; None where it is in no root."""
    for root in roots:
        stem = root.joinpath(*name.split("."))
        for path in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
            if path.is_file():
                return path
    return None

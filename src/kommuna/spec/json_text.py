"""Reads JSON with a JSON parser. A YAML parser would read parts of it differently."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kommuna.errors import SpecError


def load_json(text: str, path: Path) -> Any:
    """Parses JSON.

    YAML would read `1e-7` as a string, and U+2028 as a line break.

    Args:
        text: the file's content.
        path: the file's path, for error messages.

    Raises:
        SpecError: the text is not valid JSON, has a duplicate key, or is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_reject_constant, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        raise SpecError(f"{path.name} is not valid JSON: {error.msg}", where=f"{path}:{error.lineno}") from None
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise SpecError(f"{path.name} is not valid JSON: {reason}", where=str(path)) from None


def _reject_constant(constant: str) -> None:
    raise ValueError(f"it holds {constant}")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise ValueError(f"duplicate key '{key}'")
        seen[key] = value
    return seen

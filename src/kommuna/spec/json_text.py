"""JSON as programs write it: read as JSON, and not as the YAML that it almost is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kommuna.errors import SpecError


def load_json(text: str, path: Path) -> Any:
    """The data of a JSON text.

    YAML would make a text of `1e-7`, and a line break of U+2028.

    Args:
        text: the file's content.
        path: of the file, for messages.
    Raises:
        SpecError: it is no JSON, a key stands twice, or it is nested too deep.
    """
    try:
        return json.loads(text, parse_constant=_no_number, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise SpecError(f"{path.name} is not valid JSON: {error.msg}", where=f"{path}:{error.lineno}") from None
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise SpecError(f"{path.name} is not valid JSON: {reason}", where=str(path)) from None


def _no_number(constant: str) -> None:
    raise ValueError(f"it holds {constant}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise ValueError(f"the key '{key}' stands twice")
        seen[key] = value
    return seen

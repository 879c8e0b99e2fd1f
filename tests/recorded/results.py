"""Recorded results of small cases by version; a difference at the same version is a fault."""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel

from kommuna.spec.artifacts import Report

RELATIVE = 1e-6  # floats of another processor
ABSOLUTE = 1e-9  # so near to 0 a sum's last digits are all there is
_SHOWN = 5  # differences in a message
_TIMES = {"seconds", "llm_latency_p50", "llm_latency_p95"}  # no two runs have the same


@dataclass(frozen=True)
class RecordedFile:
    """The JSON file of recorded results: by name, the version and the results of each case."""

    path: Path

    def read(self) -> dict[str, Any]:
        return json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}

    def fault(
        self,
        name: str,
        version: int,
        found: Mapping[str, Any],
        *,
        constant: str,
        record: bool,
    ) -> str:
        """Compares the present results with the recorded ones; returns the problem as a sentence, or an empty text.

        Args:
            name: of the step.
            version: what the code says of itself.
            found: the results by case, as `plain` gives them.
            constant: where the version stands, for the message.
            record: keeps the results. Changed ones are kept under a higher version only.
        """
        known = self.read()
        problem = fault(known.get(name), version, found, constant=constant, record=record)
        if record and not problem:
            entry = {"version": version, "cases": dict(found)}
            self.path.write_text(_text(known | {name: entry}), encoding="utf-8")
        return problem


def fault(
    recorded: Mapping[str, Any] | None,
    version: int,
    found: Mapping[str, Any],
    *,
    constant: str,
    record: bool = False,
) -> str:
    """Compares results with the recorded ones; returns the problem as a sentence, or an empty text."""
    again = "record the results: run this test with `--record`"
    if recorded is None:
        return "" if record else f"{constant} has no recorded results: {again}"
    before = recorded["version"]
    if version < before:
        return f"{constant} is {version}, and results of version {before} are recorded: a version only goes up"
    if version > before:
        return "" if record else f"{constant} is {version}, and the recorded results are those of {before}: {again}"
    cases = recorded["cases"]
    same = [name for name in cases if name in found]
    changed = [line for name in same for line in differences(cases[name], found[name], name)]
    if changed:
        more = [f"and {len(changed) - _SHOWN} more differences"] if len(changed) > _SHOWN else []
        return "\n".join(
            [
                f"the results changed, and the version did not: raise {constant} to {version + 1}, then {again}",
                *changed[:_SHOWN],
                *more,
            ]
        )
    if set(cases) != set(found) and not record:
        return f"the recorded cases of {constant} are {', '.join(cases)}, not {', '.join(found)}: {again}"
    return ""


def differences(recorded: Any, found: Any, where: str) -> list[str]:
    """Returns the differences between two results, one line each; floats may differ by one part in a million."""
    if isinstance(recorded, dict) and isinstance(found, dict):
        lines = [f"{where}: no '{name}' any more" for name in recorded if name not in found]
        lines += [f"{where}: '{name}' is new" for name in found if name not in recorded]
        if not lines and list(recorded) != list(found):
            lines = [f"{where}: the order was {', '.join(recorded)}, now {', '.join(found)}"]
        both = [name for name in recorded if name in found]
        return lines + [line for name in both for line in differences(recorded[name], found[name], f"{where}.{name}")]
    if isinstance(recorded, list) and isinstance(found, list) and len(recorded) == len(found):
        return [
            line
            for i, (one, other) in enumerate(zip(recorded, found, strict=True))
            for line in differences(one, other, f"{where}[{i}]")
        ]
    if isinstance(recorded, float) and isinstance(found, float):
        same = math.isclose(recorded, found, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    else:
        same = type(recorded) is type(found) and recorded == found
    return [] if same else [f"{where}: {_short(recorded)} is recorded, now it is {_short(found)}"]


def plain(value: Any) -> Any:
    """Converts a result to JSON: a table to columns and types, a page to its text, floats to nine digits."""
    if isinstance(value, pl.LazyFrame):
        return plain(value.collect())
    if isinstance(value, pl.DataFrame):
        return {
            f"{name}: {column.dtype}": [plain(cell) for cell in column.to_list()]
            for name, column in zip(value.columns, value.iter_columns(), strict=True)
            if name not in _TIMES
        }
    if isinstance(value, Report):
        return text_of(value.html)
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="python"))
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items() if name not in _TIMES}
    if isinstance(value, list | tuple | pl.Series):
        return [plain(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta | Decimal):
        return str(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if is_dataclass(value):
        return plain(vars(value))
    raise TypeError(f"a {type(value).__name__} has no recorded form")


def text_of(html: str) -> list[str]:
    """Returns the text of a page without plots, styles and scripts."""
    page = _Page()
    page.feed(html)
    return page.texts


class _Page(HTMLParser):
    """Collects texts outside plots, styles and scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._inside = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._inside += tag in ("style", "script", "svg")

    def handle_endtag(self, tag: str) -> None:
        self._inside -= tag in ("style", "script", "svg")

    def handle_data(self, data: str) -> None:
        if not self._inside and data.strip():
            self.texts.append(re.sub(r"\s+", " ", data.strip()))


def _text(known: dict[str, Any]) -> str:
    """Returns JSON with one line per column or number, so that changed results are readable in a diff."""
    return _nested(dict(sorted(known.items())), 0) + "\n"


def _nested(value: Any, depth: int) -> str:
    if not isinstance(value, dict) or not value:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    inner = "  " * (depth + 1)
    lines = [
        f"{inner}{json.dumps(name, ensure_ascii=False)}: {_nested(part, depth + 1)}" for name, part in value.items()
    ]
    return "{\n" + ",\n".join(lines) + "\n" + "  " * depth + "}"


def _short(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= 80 else f"{shown[:79]}…"

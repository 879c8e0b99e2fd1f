"""The question: everything that is known about a run before it starts, as one digest. Imports no step.

What the code reads and imports is not known yet; it is recorded during the run (`kommuna.store.uses`).
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any

from pydantic import Field

from kommuna.spec.base import Spec
from kommuna.spec.versions import FORMAT
from kommuna.spec.words import shown
from kommuna.store.parameters import without_marks


class Question(Spec):
    """The work of a step. Equal questions have equal results, unless something else that the step uses differs."""

    function: str
    version: int | None = Field(description="The shared step's version; None for a team's step.")
    params: dict[str, Any] = Field(description="Parameters converted to the step's types, with defaults.")
    inputs: dict[str, Any] = Field(description="Content digest of each input, nested like the inputs.")
    format: int = Field(FORMAT, description="The version of the format in which values are stored.")
    python: str = Field(default_factory=lambda: f"{sys.implementation.name} {platform.python_version()}")
    machine: str = Field(default_factory=platform.machine)
    threads: int

    @property
    def digest(self) -> str:
        """SHA-256 of the question. The order of dicts counts, because a step can observe it."""
        document = json.dumps(self.model_dump(mode="json"), separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(document.encode("utf-8", "surrogatepass")).hexdigest()


def differences(before: Question, now: Question) -> Iterator[str]:
    """Describes the differences between two questions."""
    if before.function != now.function:
        yield f"the step: {before.function} → {now.function}"
        return
    for name, what in (
        ("version", "the shared step's version"),
        ("format", "the format of values"),
        ("python", "Python"),
        ("machine", "the machine"),
        ("threads", "threads (`cpu` of the step's resources)"),
    ):
        old, new = getattr(before, name), getattr(now, name)
        if old != new:
            yield f"{what}: {old} → {new}"
    old, new = ({name: without_marks(value) for name, value in one.params.items()} for one in (before, now))
    if json.dumps(old, default=str) == json.dumps(new, default=str):  # only the types differ: show the marks
        old, new = before.params, now.params
    yield from _differences("parameter", old, new)
    yield from _differences("input", before.inputs, now.inputs)


_MISSING = object()


def _differences(what: str, before: Any, now: Any, place: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for name in (*before, *(name for name in now if name not in before)):
            inner = f"{place}.{name}" if place else name
            yield from _differences(what, before.get(name, _MISSING), now.get(name, _MISSING), inner)
        if list(before) != list(now) and set(before) == set(now):
            yield f"{what} '{place}': the order {', '.join(before)} → {', '.join(now)}"
    elif (
        isinstance(before, list)
        and isinstance(now, list)
        and len(before) == len(now)
        and _shown_value(before) == _shown_value(now)
    ):
        for index, (old, new) in enumerate(zip(before, now, strict=True)):
            yield from _differences(what, old, new, f"{place}[{index}]")
    elif json.dumps(before, default=str) != json.dumps(now, default=str):
        old, new = _shown_value(before), _shown_value(now)
        if unicodedata.normalize("NFC", old) == unicodedata.normalize("NFC", new):  # they look alike
            old, new = ascii(before), ascii(now)
        yield f"{what} '{place}': {old} → {new}"


def _shown_value(value: Any) -> str:
    return "not given" if value is _MISSING else shown(value)

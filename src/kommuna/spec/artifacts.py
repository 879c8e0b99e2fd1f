"""Types that steps return besides tables, and what tells the runtime how to keep them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

from kommuna.spec.step import Services


@dataclass(frozen=True)
class Report:
    """A self-contained HTML page: it opens offline, from a file."""

    html: str


@runtime_checkable
class Saved(Protocol):
    """An artifact with a file format of its own, a model for example: always one single file.

    A class attribute `suffix`, such as ".yaml", names the file's ending; without one it is ".model".
    """

    def save(self, path: Path) -> None: ...

    @classmethod
    def load(cls, path: Path) -> Self: ...


@runtime_checkable
class Client(Protocol):
    """A typed client of a service: a step that declares a parameter of such a type is given one."""

    @classmethod
    def from_services(cls, services: Services) -> Self: ...

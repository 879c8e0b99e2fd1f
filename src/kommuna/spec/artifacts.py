"""Types that steps return besides tables, and what tells the runtime how to keep them."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

from kommuna.spec.step import Services


@dataclass(frozen=True)
class Report:
    """A self-contained HTML page: it opens offline, from a file."""

    html: str

    def _repr_html_(self) -> str:
        """The page in a frame of its own, without scripts and apart from the notebook around it."""
        # Links within the page are relative to the page, not to the notebook that frames it.
        page = self.html.replace("<head>", '<head><base href="about:srcdoc">', 1)
        style = "width: 100%; height: 40rem; border: 0"
        return f'<iframe sandbox srcdoc="{escape(page)}" style="{style}"></iframe>'


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
    """A typed client of a service: a step that declares a parameter of such a type is given one.

    A method `settings_used`, if it has one, names the settings that its answers depend on (`llm.light.model`); else all
    of the services' settings count for the step's result.
    """

    @classmethod
    def from_services(cls, services: Services) -> Self: ...

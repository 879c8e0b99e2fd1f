"""Types that steps return or declare besides tables, and the protocols by which the runtime recognizes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

from kommuna.spec.step import Services


@dataclass(frozen=True)
class Report:
    """A self-contained HTML page, which opens offline from a file."""

    html: str

    def _repr_html_(self) -> str:
        """Shows the page in a notebook, in a sandboxed frame without scripts."""
        # Links within the page are relative to the page, not to the notebook that frames it.
        page = self.html.replace("<head>", '<head><base href="about:srcdoc">', 1)
        style = "width: 100%; height: 40rem; border: 0"
        return f'<iframe sandbox srcdoc="{escape(page)}" style="{style}"></iframe>'


@runtime_checkable
class Saved(Protocol):
    """An artifact with its own file format, for example a model. It is always a single file.

    The class attribute `suffix`, such as ".yaml", sets the file name's suffix. The default is ".model".
    """

    def save(self, path: Path) -> None:
        """Writes the artifact to a file."""
        ...

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads the artifact from a file that `save` wrote."""
        ...


@runtime_checkable
class ComputedWithTables(Protocol):
    """Metrics of a step that are computed in the pass that writes its tables."""

    def compute_with(self, sinks: Sequence[Any]) -> None:
        """Runs the plans that write tables, and computes the metrics in the same pass."""
        ...


@runtime_checkable
class Client(Protocol):
    """A typed client of a service. The runtime passes one to a step that declares a parameter of such a type.

    The optional method `settings_used` returns the settings that the client's responses depend on, such as
    `llm.light.model`. Without it, a step's result depends on the settings of all services.
    """

    @classmethod
    def from_services(cls, services: Services) -> Self:
        """Creates a client from the addresses of the services."""
        ...

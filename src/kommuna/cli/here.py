"""The platform that a command works on: the nearest kommuna.yaml, or that of `KOMMUNA_PLATFORM`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from kommuna.embedded import Embedded
from kommuna.errors import SpecError
from kommuna.spec.installation import Installation, find_installation
from kommuna.store import Store

# Printed text contains names, rules, paths and URLs of users. It must not be parsed as Rich markup or emoji codes, nor
# be wrapped: a terminal wraps long lines itself, and in a pipe a path stays in one piece.
_PLAIN: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False, "soft_wrap": True}
console = Console(**_PLAIN)
_messages = Console(stderr=True, **_PLAIN)


def message_console(*, as_json: bool) -> Console:
    """Returns the console for messages: stderr if stdout carries a JSON document."""
    return _messages if as_json else console


def installation() -> Installation:
    """Returns the platform's description."""
    return find_installation(Path.cwd())


def embedded() -> Embedded:
    """Returns the embedded platform."""
    return Embedded(installation())


def store(team: str) -> Store:
    """Returns a team's artifact store.

    Raises:
        SpecError: there is no such team.
    """
    here = installation()
    here.require_team(team)
    return Store(here.store(), team)


def team_of_model(name: str) -> str:
    """Returns the team of a registered model, whose name begins with it.

    Raises:
        SpecError: the name has no team in front, or there is no such team.
    """
    team, has_team, _ = name.partition("__")
    if not has_team:
        raise SpecError(f"'{name}' has no team in front", fix=f"name the model as MLflow does: support__{name}")
    installation().require_team(team)
    return team

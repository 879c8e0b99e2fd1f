"""The platform that a command is about: the nearest kommuna.yaml, or the one of `KOMMUNA_PLATFORM`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from kommuna.embedded import Embedded
from kommuna.spec.installation import Installation, find_installation
from kommuna.store import Store

# What is printed holds people's words: names, rules, paths, URLs. None of it is Rich's markup, a name of an emoji, or
# broken into lines: a terminal folds what is too wide by itself, and in a pipe a path stays one word.
_PLAIN: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False, "soft_wrap": True}
console = Console(**_PLAIN)
_messages = Console(stderr=True, **_PLAIN)


def voice(*, as_json: bool) -> Console:
    """Where a command talks to people: beside the JSON document, if there is one, and not in it."""
    return _messages if as_json else console


def installation() -> Installation:
    """The platform's description."""
    return find_installation(Path.cwd())


def embedded() -> Embedded:
    """The embedded platform."""
    return Embedded(installation())


def store(team: str) -> Store:
    """A team's artifact store.

    Raises:
        SpecError: there is no such team.
    """
    here = installation()
    here.require_team(team)
    return Store(here.store(), team)

"""Names of teams, and the team prefix that keeps Airflow's global ids unique."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import StringConstraints

from kommuna.errors import SpecError

TEAM_PATTERN = r"^[a-z][a-z0-9]{2,}$"
SEPARATOR = "__"

TeamName = Annotated[str, StringConstraints(pattern=TEAM_PATTERN, max_length=40)]
NamespaceName = Annotated[str, StringConstraints(pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$", max_length=63)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$", max_length=200)]


def qualified(team: str, name: str, *, teams: Iterable[str] = ()) -> str:
    """Returns the global id of a team's DAG, pool, connection or variable.

    Args:
        team: the team that owns it.
        name: an id with or without the team's prefix, such as `topics`.
        teams: all teams of the platform, so that the prefix of another team is rejected.

    Raises:
        SpecError: the id has the prefix of another team.

    >>> qualified("support", "topics")
    'support__topics'
    >>> qualified("support", "support__topics")
    'support__topics'
    """
    prefix = owner_of(name)
    if prefix == team:
        return name
    if prefix is not None and (prefix in set(teams) or not teams):
        raise SpecError(
            f"'{name}' has the prefix of team '{prefix}', but belongs to team '{team}'",
            fix=f"name it '{name.split(SEPARATOR, 1)[1]}': the platform adds '{team}{SEPARATOR}' by itself",
        )
    return f"{team}{SEPARATOR}{name}"


def owner_of(name: str) -> str | None:
    """Returns the team whose prefix an id has, or None.

    >>> owner_of("support__topics")
    'support'
    """
    head, separator, rest = name.partition(SEPARATOR)
    return head if separator and rest and re.match(TEAM_PATTERN, head) else None

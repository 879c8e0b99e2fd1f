"""Names: a team's, and the prefix that keeps Airflow's global ids apart."""

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
    """The global id of a team's DAG, pool, connection or variable.

    Args:
        team: the owner.
        name: a bare id (`topics`), or one that has the team's prefix already.
        teams: every team of the platform, to refuse another's prefix.
    Raises:
        SpecError: the id has another team's prefix.

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
    """The team whose prefix an id has, if it has one.

    >>> owner_of("support__topics")
    'support'
    """
    head, separator, rest = name.partition(SEPARATOR)
    return head if separator and rest and re.match(TEAM_PATTERN, head) else None

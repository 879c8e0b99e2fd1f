"""Who asks: the person that Airflow's auth manager gives for a request, and the teams that it authorizes.

This is the one place that asks the auth manager, so any auth manager that knows teams fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import HTTPException
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import Scope

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.base_auth_manager import BaseAuthManager, ResourceMethod

_KEY = "kommuna.person"
_NO_TEAM = ""
_READ_AND_CHANGE: tuple[ResourceMethod, ...] = ("GET", "PUT")


@dataclass(frozen=True)
class Person:
    """A person who is signed in.

    Attributes:
        login: their name, as the audit log has it.
        own_teams: their teams; all of them for a platform admin.
        operated: those of them whose things they may change. All of them where a role is the same in every team: then
            the auth manager itself judges by the role.
        teams: every team of the platform.
        platform: whether they are a platform admin.
    """

    login: str
    own_teams: frozenset[str]
    operated: frozenset[str]
    teams: frozenset[str]
    platform: bool


async def person(scope: Scope) -> Person:
    """Returns the person who sends a request; it is asked for once for each request.

    Raises:
        HTTPException: the request has no valid token, or the person is not a member any more.
    """
    if _KEY not in scope:
        scope[_KEY] = await _asked(scope)
    found: Person = scope[_KEY]
    return found


async def _asked(scope: Scope) -> Person:
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import TeamDetails
    from airflow.api_fastapi.core_api.security import bearer_scheme, get_user
    from airflow.models.team import Team

    request, manager = Request(scope), get_auth_manager()
    try:
        user = await get_user(request, None, await bearer_scheme(request))
    except (KeyError, TypeError, ValueError) as error:
        raise HTTPException(403, "the token does not name a person") from error
    if not _is_member(manager, user):
        raise HTTPException(401, "the token's person has left, or has other teams or another role: sign in again")

    def asked() -> Person:
        teams = frozenset(Team.get_all_team_names())
        # A team that nobody is a member of: who may change it acts for the platform, not for each of its teams.
        if manager.is_authorized_team(method="PUT", user=user, details=TeamDetails(name=_NO_TEAM)):
            return Person(user.get_name(), teams, teams, teams, platform=True)
        own, operated = (
            frozenset(manager.filter_authorized_teams(teams_names=set(teams), user=user, method=method))
            for method in _READ_AND_CHANGE
        )
        return Person(user.get_name(), own, operated, teams, platform=False)

    return await run_in_threadpool(asked)


def _is_member(manager: BaseAuthManager[Any], user: Any) -> bool:
    """Whether the person still is what the token says. The simple manager's token says so for a day, unasked."""
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    return not isinstance(manager, SimpleAuthManager) or user in manager.get_users()

"""What each role may do, as the authorization settings of a client in Keycloak: pure functions of the teams.

A team's right is held by the groups of its roles, /CLIENT/TEAM/ROLE, and by groups that the team names. Roles are a
team's own: a person may be an operator in one team and a viewer in another.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from kommuna.spec.auth import Auth
from kommuna.spec.team import GROUP_ROLES, Team

READ = ("GET", "LIST")
WRITE = ("POST", "PUT", "DELETE")
ALL = (*READ, *WRITE)
# What each role may do with a team's things, besides what the role before it may.
ROLE_RIGHTS: dict[str, dict[str, tuple[str, ...]]] = {
    "viewer": {"Dag": READ, "Pool": READ, "Team": READ},
    "user": {"Dag": WRITE},
    "op": {"Variable": ALL, "Connection": READ, "Team": WRITE},
    "admin": {"Connection": WRITE},
}
TEAM_KINDS = ("Dag", "Pool", "Team", "Variable", "Connection")
# Things without a team. Lists are filtered by team; assets and their events by name, in the API server.
MEMBER_RIGHTS = {**dict.fromkeys(TEAM_KINDS, ("LIST",)), "Asset": READ, "AssetAlias": READ, "View": ("GET",)}
OPERATOR_RIGHTS = {"Asset": WRITE}
PLATFORM_KINDS = (*TEAM_KINDS, "Asset", "AssetAlias", "View", "AdminView", "Backfill", "Configuration", "Custom")
_MEMBERS, _OPERATORS, _ADMINS = "members", "operators", "administrators"


def admins_group(auth: Auth) -> str:
    """Returns the path of the group of the platform's administrators."""
    return f"/{auth.client}-admins"


def own_groups(auth: Auth, teams: Iterable[str]) -> list[str]:
    """Returns the paths of all groups that the platform makes, parents first."""
    return [
        admins_group(auth),
        f"/{auth.client}",
        *(path for team in sorted(teams) for path in (_group(auth, team), *_role_groups(auth, team).values())),
    ]


def named_groups(auth: Auth, teams: Mapping[str, Team]) -> dict[str, str]:
    """Returns the groups that the values name, each with the values' key.

    Args:
        auth: the values' `auth`.
        teams: the values' `teams`.
    """
    found = dict.fromkeys(auth.admin_groups, "auth.admin_groups")
    for name, team in teams.items():
        for role, paths in team.groups.items():
            found |= dict.fromkeys(paths, f"teams.{name}.groups.{role}")
    return found


def settings(auth: Auth, teams: Mapping[str, Team]) -> dict[str, Any]:
    """Returns the client's authorization settings, in the format of Keycloak's import.

    Args:
        auth: the values' `auth`.
        teams: the values' `teams`.
    """
    resources = [_resource(kind) for kind in PLATFORM_KINDS]
    policies = [_groups(_ADMINS, [admins_group(auth), *auth.admin_groups])]
    permissions = [_permission("the platform", PLATFORM_KINDS, ALL, [_ADMINS])]
    members, operators = [], []
    for name, team in sorted(teams.items()):
        own = _role_groups(auth, name)
        holders: list[str] = []
        for role in reversed(GROUP_ROLES):  # a role's rights are those of every later one, too
            paths = [own[role], *team.groups.get(role, ())]
            policies.append(_groups(f"{name}: {role}", paths))
            holders.append(f"{name}: {role}")
            members += paths
            operators += paths if role in ("op", "admin") else []
            for kind, scopes in ROLE_RIGHTS[role].items():
                permissions.append(_permission(f"{name}: {role}, {kind}", [f"{kind}:{name}"], scopes, [*holders]))
        resources += [_resource(f"{kind}:{name}") for kind in TEAM_KINDS]
        permissions.append(
            _permission(f"{name}: the platform", [f"{kind}:{name}" for kind in TEAM_KINDS], ALL, [_ADMINS])
        )
    for holder, paths, rights in ((_MEMBERS, members, MEMBER_RIGHTS), (_OPERATORS, operators, OPERATOR_RIGHTS)):
        if paths:
            policies.append(_groups(holder, paths))
            permissions += [
                _permission(f"{holder}, {kind}", [kind], scopes, [holder]) for kind, scopes in rights.items()
            ]
    return {
        "policyEnforcementMode": "ENFORCING",
        "decisionStrategy": "AFFIRMATIVE",
        "allowRemoteResourceManagement": False,
        "scopes": [{"name": scope} for scope in ALL],
        "resources": resources,
        "policies": [*policies, *permissions],
    }


def _group(auth: Auth, team: str) -> str:
    return f"/{auth.client}/{team}"


def _role_groups(auth: Auth, team: str) -> dict[str, str]:
    return {role: f"{_group(auth, team)}/{role}" for role in GROUP_ROLES}


def _resource(name: str) -> dict[str, Any]:
    return {"name": name, "scopes": [{"name": scope} for scope in ALL]}


def _groups(name: str, paths: Iterable[str]) -> dict[str, Any]:
    groups = [{"path": path, "extendChildren": False} for path in dict.fromkeys(paths)]
    return _policy(name, "group", groups=groups)


def _permission(name: str, resources: Iterable[str], scopes: Iterable[str], holders: Iterable[str]) -> dict[str, Any]:
    return _policy(f"{name} (permission)", "scope", resources=[*resources], scopes=[*scopes], applyPolicies=[*holders])


def _policy(name: str, kind: str, **config: list[Any]) -> dict[str, Any]:
    return {
        "name": name,
        "type": kind,
        "logic": "POSITIVE",
        "decisionStrategy": "AFFIRMATIVE",
        "config": {key: json.dumps(value) for key, value in config.items()},
    }

"""Whose a variable or connection is, where the REST API writes one: the prefix of its name decides.

Airflow makes one without a team everybody's, lets any operator change what is everybody's, and never asks its auth
manager about a name. So this middleware of the API server judges such requests before Airflow sees them. Pools are the
platform's: their slots are what teams share.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kommuna.spec.names import SEPARATOR, owner_of

_PATH = re.compile(r"/api/v2/(variables|connections|pools)(?:/(.*))?$", re.DOTALL)
_READS = ("GET", "HEAD", "OPTIONS")
_NAME = {"variables": "key", "connections": "connection_id", "pools": "name"}
_NAMELESS = ("", "test", "enqueue-test")  # paths of POST whose body has the name


class Refused(Exception):
    """The request is not passed on; the text says why, and what would be."""


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes:
        mine: the teams for which the caller may do this.
        teams: every team of the platform.
    """

    mine: frozenset[str]
    teams: frozenset[str]

    @property
    def platform(self) -> bool:
        """Whether the caller speaks for the platform: for every team."""
        return self.mine >= self.teams


def assigned(kind: str, method: str, path: str, body: Any, caller: Caller) -> Any:
    """The request's body with the owner in it.

    Args:
        kind: `variables`, `connections` or `pools`.
        method: of HTTP.
        path: what follows the kind: a name, or nothing.
        body: the JSON; None where there is none.
        caller: who asks.

    Raises:
        Refused: the name is not the caller's to write.
    """
    if kind == "pools" and not caller.platform:
        raise Refused("pools are the platform's: a team's are in its entry in the platform's configuration")
    if method == "PATCH" and not path:
        return body | {"actions": [_action(kind, action, caller) for action in _list(body, "actions")]}
    if method == "POST":
        if path not in _NAMELESS:
            if not caller.platform:
                raise Refused(f"only the platform's operators may write {kind}/{path}")
            return body
        return _entity(kind, body, caller)
    if method == "DELETE":
        owner(path, None, caller, kind)
        return body
    return _owned(body, owner(path, _team(body), caller, kind))


def owner(name: str, given: str | None, caller: Caller, kind: str) -> str | None:
    """The team that a name belongs to; None for the platform's own.

    Raises:
        Refused: it is another team's, has no prefix, or the request says another team.
    """
    found = owner_of(name)
    if found not in caller.teams:
        if given is not None:
            raise Refused(f"'{name}' is to be of team '{given}': name it '{given}{SEPARATOR}{name}'")
        if caller.platform:
            return None
        raise Refused(f"'{name}' has no team's prefix, so it would be everybody's: {_advice(name, caller.mine)}")
    if given not in (None, found):
        raise Refused(f"'{name}' has the prefix of team '{found}', but is to be of team '{given}'")
    if found not in caller.mine:
        raise Refused(f"'{name}' has the prefix of team '{found}': you may not write {kind} of that team")
    return found


def _advice(name: str, mine: Iterable[str]) -> str:
    names = [f"'{team}{SEPARATOR}{name}'" for team in sorted(mine)]
    return f"name it {' or '.join(names)}" if names else "you are in no team"


def _action(kind: str, action: Any, caller: Caller) -> Any:
    """One action of a bulk request: entities, or of a deletion maybe names alone."""
    entities = []
    for entity in _list(action, "entities"):
        if isinstance(entity, str):
            owner(entity, None, caller, kind)
            entities.append(entity)
        else:
            entities.append(_entity(kind, entity, caller))
    return action | {"entities": entities}


def _entity(kind: str, entity: Any, caller: Caller) -> Any:
    name = entity.get(_NAME[kind]) if isinstance(entity, dict) else None
    if not isinstance(name, str):
        raise Refused(f"{kind}: '{_NAME[kind]}' is missing")
    return _owned(entity, owner(name, _team(entity), caller, kind))


def _owned(entity: Any, team: str | None) -> Any:
    return entity if team is None else entity | {"team_name": team}


def _team(entity: Any) -> str | None:
    if not isinstance(entity, dict):
        raise Refused("the body is not a JSON object")
    given = entity.get("team_name")
    if given is not None and not isinstance(given, str):
        raise Refused("'team_name' is not a text")
    return given or None


def _list(body: Any, name: str) -> list[Any]:
    found = body.get(name) if isinstance(body, dict) else None
    if not isinstance(found, list):
        raise Refused(f"the body has no list '{name}'")
    return found


class Ownership:
    """The middleware.

    Args:
        app: what it stands before.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, with the owner in its body, or answers 403."""
        match = _PATH.search(scope["path"]) if scope["type"] == "http" else None
        if match is None or scope["method"] in _READS:
            await self._app(scope, receive, send)
            return
        raw = await Request(scope, receive).body()
        try:
            caller = await _caller(scope)
        except HTTPException:
            caller = None  # Airflow answers that there is no such login
        if caller is not None:
            try:
                body = json.loads(raw) if raw else None
                changed = assigned(match[1], scope["method"], match[2] or "", body, caller)
            except (Refused, ValueError) as error:
                said = str(error) if isinstance(error, Refused) else f"the body is not JSON: {error}"
                await JSONResponse({"detail": said}, 403)(scope, receive, send)
                return
            raw = b"" if changed is None else json.dumps(changed).encode()
        headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
        headers.append((b"content-length", str(len(raw)).encode()))
        await self._app({**scope, "headers": headers}, _replay(raw, receive), send)


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body once, then what the client does."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return left.pop() if left else await receive()

    return next_message


async def _caller(scope: Scope) -> Caller:
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.core_api.security import bearer_scheme, get_user
    from airflow.models.team import Team

    request = Request(scope)
    user = await get_user(request, None, await bearer_scheme(request))

    def teams() -> Caller:
        every = Team.get_all_team_names()
        mine = get_auth_manager().filter_authorized_teams(teams_names=every, user=user, method="PUT")
        return Caller(frozenset(mine), frozenset(every))

    return await run_in_threadpool(teams)

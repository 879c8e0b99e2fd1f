"""Decides which team owns a variable, connection or pool that the REST API writes: by the prefix of its name.

In Airflow one without a team belongs to everybody, any operator may change it, and the auth manager is never asked
about a name. So this middleware of the API server checks such requests before Airflow sees them. Requests for pools
have passed the guard of people's requests, which leaves them to platform admins.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from fastapi import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from kommuna.airflow.server.asgi import replay, sized
from kommuna.airflow.server.people.persons import Person, person
from kommuna.spec.names import SEPARATOR, owner_of

_PATH = re.compile(r"/api/v2/(variables|connections|pools)(?:/(.*))?$", re.DOTALL)
_READS = ("GET", "HEAD", "OPTIONS")
_NAME = {"variables": "key", "connections": "connection_id", "pools": "name"}
_NAMELESS = ("", "test", "enqueue-test")  # POST paths whose body contains the name


class NameRefused(Exception):
    """The request is refused; the text says why and what would be allowed."""


def assigned(kind: str, method: str, path: str, body: Any, person: Person) -> Any:
    """Returns the request's body with the owner filled in.

    Args:
        kind: `variables`, `connections` or `pools`.
        method: the HTTP method.
        path: the path after the kind: a name, or empty.
        body: the JSON body, or None.
        person: who sends the request.

    Raises:
        NameRefused: the person may not write this name.
    """
    if method == "PATCH" and not path:
        return body | {"actions": [_action(kind, action, person) for action in _list(body, "actions")]}
    if method == "POST":
        if path not in _NAMELESS:
            if not person.platform:
                raise NameRefused(f"only the platform's operators may write {kind}/{path}")
            return body
        return _entity(kind, body, person)
    if method == "DELETE":
        owner(path, None, person, kind)
        return body
    return _owned(body, owner(path, _team(body), person, kind))


def owner(name: str, given: str | None, person: Person, kind: str) -> str | None:
    """Returns the team that owns a name; None if the platform owns it.

    Args:
        name: the name of the variable, connection or pool.
        given: the team that the request assigns it to; None if it assigns none.
        person: who sends the request.
        kind: `variables`, `connections` or `pools`, for the error.

    Raises:
        NameRefused: another team owns it, it has no prefix, or the request names another team.
    """
    found = owner_of(name)
    if found not in person.teams:
        if given is not None:
            raise NameRefused(f"'{name}' is assigned to team '{given}': name it '{given}{SEPARATOR}{name}'")
        if person.platform:
            return None
        raise NameRefused(
            f"'{name}' has no team prefix, so it would belong to everybody: {_advice(name, person.own_teams)}"
        )
    if given not in (None, found):
        raise NameRefused(f"'{name}' has the prefix of team '{found}', but is assigned to team '{given}'")
    if found not in person.own_teams:
        raise NameRefused(f"'{name}' has the prefix of team '{found}': you may not write {kind} of that team")
    return found


def _advice(name: str, own_teams: Iterable[str]) -> str:
    names = [f"'{team}{SEPARATOR}{name}'" for team in sorted(own_teams)]
    return f"name it {' or '.join(names)}" if names else "you do not belong to a team"


def _action(kind: str, action: Any, person: Person) -> Any:
    """Fills in the owners of one action of a bulk request. A deletion may list names instead of entities."""
    entities = []
    for entity in _list(action, "entities"):
        if isinstance(entity, str):
            owner(entity, None, person, kind)
            entities.append(entity)
        else:
            entities.append(_entity(kind, entity, person))
    return action | {"entities": entities}


def _entity(kind: str, entity: Any, person: Person) -> Any:
    name = entity.get(_NAME[kind]) if isinstance(entity, dict) else None
    if not isinstance(name, str):
        raise NameRefused(f"{kind}: '{_NAME[kind]}' is missing")
    return _owned(entity, owner(name, _team(entity), person, kind))


def _owned(entity: Any, team: str | None) -> Any:
    return entity if team is None else entity | {"team_name": team}


def _team(entity: Any) -> str | None:
    if not isinstance(entity, dict):
        raise NameRefused("the body is not a JSON object")
    given = entity.get("team_name")
    if given is not None and not isinstance(given, str):
        raise NameRefused("'team_name' is not a text")
    return given or None


def _list(body: Any, name: str) -> list[Any]:
    found = body.get(name) if isinstance(body, dict) else None
    if not isinstance(found, list):
        raise NameRefused(f"the body has no list '{name}'")
    return found


class Ownership:
    """ASGI middleware that assigns an owner to written variables and connections, and refuses other teams' names.

    Args:
        app: the wrapped ASGI application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on with the owner in its body, or answers 403."""
        match = _PATH.search(scope["path"]) if scope["type"] == "http" else None
        if match is None or scope["method"] in _READS:
            await self._app(scope, receive, send)
            return
        raw = await Request(scope, receive).body()
        try:
            sender = await person(scope)
        except HTTPException:
            sender = None  # Airflow itself answers that the login is invalid
        if sender is not None:
            try:
                body = json.loads(raw) if raw else None
                changed = assigned(match[1], scope["method"], match[2] or "", body, sender)
            except (NameRefused, ValueError) as error:
                detail = str(error) if isinstance(error, NameRefused) else f"the body is not JSON: {error}"
                await JSONResponse({"detail": detail}, 403)(scope, receive, send)
                return
            raw = b"" if changed is None else json.dumps(changed).encode()
        await self._app(sized(scope, raw), replay(raw, receive), send)

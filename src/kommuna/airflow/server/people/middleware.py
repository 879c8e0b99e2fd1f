"""The ASGI middleware that applies the rules for people to everything but the Execution API.

It answers a refused request itself. For an allowed request Airflow asks its auth manager, and its queries see the
person's rows.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fastapi import HTTPException
from starlette._utils import get_route_path
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, QueryParams
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kommuna.airflow.server.asgi import read, replay
from kommuna.airflow.server.guard.database import owners
from kommuna.airflow.server.guard.events import Events
from kommuna.airflow.server.guard.facts import Refusal
from kommuna.airflow.server.people.backfills import too_many_runs
from kommuna.airflow.server.people.decisions import PersonFacts, PersonRequest, decide
from kommuna.airflow.server.people.persons import Person, person
from kommuna.airflow.server.people.routes import Need, PeopleRoute, find
from kommuna.airflow.server.people.rows import install, published_to, seen_by
from kommuna.airflow.server.people.sign_in import SignIns

_EXECUTION = "/execution"
_READS = ("GET", "HEAD", "OPTIONS")
_MOST = 4 * 1024 * 1024  # bytes of a body
_FAILURES = (400, 401, 403, 422)


class People:
    """ASGI middleware that lets people's requests through if the rules allow them.

    Args:
        app: the wrapped ASGI application.
    """

    def __init__(self, app: ASGIApp) -> None:
        install()
        self._app = app
        self._events = Events()
        self._sign_ins = SignIns()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers why it is refused."""
        path = get_route_path(scope) if scope["type"] == "http" else _EXECUTION
        if f"{path}/".startswith(f"{_EXECUTION}/"):
            await self._app(scope, receive, send)
            return
        found = find(scope["method"], path) if path.isprintable() else None
        if found is None:
            await JSONResponse({"detail": "the platform knows no such route"}, 404)(scope, receive, send)
            return
        row, values = found
        if row.need is Need.PUBLIC:
            await self._app(scope, receive, send)
            return
        raw = await read(scope, receive, _MOST)
        if raw is None:
            await JSONResponse({"detail": f"the request has more than {_MOST:,} bytes"}, 413)(scope, receive, send)
        elif row.need is Need.SIGN_IN:
            await self._sign_in(raw, scope, receive, send)
        else:
            await self._judge(row, values, raw, scope, receive, send)

    async def _judge(
        self, row: PeopleRoute, values: Any, raw: bytes, scope: Scope, receive: Receive, send: Send
    ) -> None:
        try:
            who = await person(scope)
        except HTTPException as error:
            await JSONResponse({"detail": error.detail}, error.status_code)(scope, receive, send)
            return
        query = QueryParams(scope["query_string"])
        request = PersonRequest(row, values, {name: query.getlist(name) for name in query}, _json(raw))
        refusal = _from_elsewhere(scope) or decide(request, who, await _facts(request, who))
        if refusal is None and row.need is Need.BACKFILL and not who.platform:
            refusal = await run_in_threadpool(too_many_runs, request.body)
        if refusal is not None:
            what = f"{scope['method']} {get_route_path(scope)}"
            await self._events.person_refused(what, row, refusal.why, who.login, who.own_teams)
            await JSONResponse({"detail": refusal.why}, refusal.status)(scope, receive, send)
            return
        with seen_by(who):
            await self._app(scope, replay(raw, receive), send)

    async def _sign_in(self, raw: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        address, login = (scope.get("client") or ("",))[0], _login(raw)
        seconds = self._sign_ins.wait(address, login)
        if seconds:
            said = {"detail": f"too many failed sign-ins: try again in {seconds} s"}
            await JSONResponse(said, 429, {"retry-after": str(seconds)})(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in _FAILURES:
                self._sign_ins.failed(address, login)
            await send(message)

        await self._app(scope, replay(raw, receive), counted)


async def _facts(request: PersonRequest, who: Person) -> PersonFacts:
    from airflow.models.asset import AssetModel, TaskOutletAssetReference
    from airflow.utils.session import create_session_async
    from sqlalchemy import select

    dags, asset = request.dags(), request.asset()
    of_asset = request.row.need in (Need.ASSET, Need.OPERATED_ASSET) and asset is not None
    if who.platform or not (dags or of_asset):
        return PersonFacts()
    async with create_session_async() as session:
        teams = await owners(session, dags) if dags else {}
        if not of_asset:
            return PersonFacts(teams)
        name = await session.scalar(select(AssetModel.name).where(AssetModel.id == asset))
        outlet = select(TaskOutletAssetReference.asset_id).where(
            TaskOutletAssetReference.asset_id == asset, published_to(who.own_teams)
        )
        return PersonFacts(teams, name, (await session.scalar(outlet.limit(1))) is not None)


def _from_elsewhere(scope: Scope) -> Refusal | None:
    """Refuses what another site's page has a signed-in browser write."""
    from airflow.configuration import conf

    headers = Headers(scope=scope)
    origin = headers.get("origin")
    if scope["method"] in _READS or origin is None:
        return None
    allowed = {urlsplit(conf.get("api", "base_url", fallback="")).netloc, headers.get("host", "")}
    allowed |= {urlsplit(one).netloc for one in conf.getlist("api", "access_control_allow_origins")}
    return None if urlsplit(origin).netloc in allowed - {""} else Refusal("the request comes from another site's page")


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw) if raw else None
    except (ValueError, RecursionError):
        return None


def _login(raw: bytes) -> str:
    body = _json(raw)
    if isinstance(body, dict):
        return str(body.get("username", ""))[:200]
    return parse_qs(raw.decode("utf-8", errors="replace")).get("username", [""])[0][:200]

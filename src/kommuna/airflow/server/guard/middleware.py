"""The ASGI middleware that applies the guard to Airflow's Execution API, at `/execution`.

It answers a refused request itself. An allowed request goes on with the body that was judged, and its answer renews the
token only while the task instance runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import jwt
from airflow.api_fastapi.auth.tokens import JWTValidator
from airflow.api_fastapi.execution_api.app import _jwt_validator
from airflow.configuration import conf
from starlette._utils import get_route_path
from starlette.datastructures import Headers, QueryParams
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kommuna.airflow.server.asgi import read, replay, sized
from kommuna.airflow.server.guard.database import Database
from kommuna.airflow.server.guard.decisions import decider, subjects
from kommuna.airflow.server.guard.events import Events
from kommuna.airflow.server.guard.facts import RUNNING, Decide, Facts, Refusal, Subjects, TaskRequest, Token
from kommuna.airflow.server.guard.routes import JUDGED_BODIES, Check, Route, find
from kommuna.spec.installation import find_installation
from kommuna.spec.resources import memory_bytes

MOUNT = "/execution"
_LOG_UPLOAD_SECONDS = 5  # a task's supervisor uploads the log after Airflow's `task_success_overtime`
_RENEWAL = b"refreshed-api-token"
_BEATS = 204  # the status of a heartbeat, if the instance runs


_UNKNOWN = Route("", "", Check.UNKNOWN)


class _Refused(Exception):
    """The request is answered here."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.why)
        self.refusal = refusal


@dataclass
class _Judged:
    """A request on its way through the guard.

    Attributes:
        route: its route.
        token: its token, once it is validated.
        facts: what the database says, once it is asked.
        raw: the body that is passed on.
    """

    route: Route
    token: Token | None = None
    facts: Facts = Facts(None)  # noqa: RUF009  # frozen
    raw: bytes = b""

    @property
    def runs(self) -> bool:
        """Whether the task instance is running."""
        return self.facts.instance is not None and self.facts.instance.state == RUNNING

    @property
    def ends(self) -> bool:
        """Whether the answer must not renew the token: only a running instance, or one that starts, gets a new one."""
        return not self.runs and self.route.check is not Check.START


class Guard:
    """ASGI middleware that lets a task's requests through if the guard allows them.

    Args:
        app: the wrapped ASGI application.
        decide: the decision function.
    """

    def __init__(self, app: ASGIApp, decide: Decide | None = None) -> None:
        overtime = conf.getfloat("core", "task_success_overtime") + _LOG_UPLOAD_SECONDS
        self._app = app
        self._decide = decide or decider(timedelta(seconds=overtime))
        self._limit = memory_bytes(find_installation(Path.cwd()).platform.task_request_limit)
        self._validator: JWTValidator = _jwt_validator()  # type: ignore[no-untyped-call]
        self._database = Database()
        self._events = Events()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers why it is refused."""
        path = get_route_path(scope) if scope["type"] == "http" else ""
        if path != MOUNT and not path.startswith(f"{MOUNT}/"):
            await self._app(scope, receive, send)
            return
        path = path[len(MOUNT) :]
        route, values = (find(scope["method"], path) if path.isprintable() else None) or (_UNKNOWN, {})
        if route.check is Check.PUBLIC:
            await self._app(scope, receive, send)
            return
        judged = _Judged(route)
        try:
            judged.token = await self._token(scope)
            await self._judge(judged, values, scope, receive)
        except _Refused as refused:
            if route.check is Check.STATE:
                await self._fail(scope, values, judged)
            subject = judged.token.subject if judged.token else None
            if judged.token is not None and judged.facts.instance is None:
                judged.facts = await self._database.facts(_UNKNOWN, judged.token, Subjects())
            what = f"{scope['method']} {path}"
            await self._events.refused(what, route, refused.refusal.why, subject, judged.facts.instance)
            await _answer(refused.refusal)(scope, receive, send)
            return
        if judged.ends:
            send = _unrenewed(send, but=_BEATS if route.check is Check.HEARTBEAT else None)
        await self._app(sized(scope, judged.raw), replay(judged.raw, receive), send)

    async def _judge(self, judged: _Judged, values: Mapping[str, str], scope: Scope, receive: Receive) -> None:
        """Reads the body and the facts, and decides.

        Raises:
            _Refused: the request is not allowed.
        """
        route, token = judged.route, judged.token
        assert token is not None
        body, too_large = None, None
        try:
            judged.raw = await _body(scope, receive, self._limit)
        except _Refused as refused:
            too_large = refused
        if route.check in JUDGED_BODIES:
            body, judged.raw = _json(judged.raw)
        request = TaskRequest(route, values, _query(scope), token, datetime.now(UTC), body)
        judged.facts = await self._database.facts(route, token, subjects(request))
        if route.check in (Check.STATE, Check.START):
            self._database.forget(token.subject)
        if too_large is not None:
            raise too_large
        refusal = self._decide(request, judged.facts)
        if refusal is not None:
            raise _Refused(refusal)

    async def _token(self, scope: Scope) -> Token:
        kind, _, text = Headers(scope=scope).get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not text:
            raise _Refused(Refusal("the request has no token", 401))
        try:
            claims = await self._validator.avalidated_claims(text, {})
            return Token(UUID(claims["sub"]), claims.get("scope", "execution"), int(claims["iat"]))
        except (jwt.PyJWTError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise _Refused(Refusal(f"the token is invalid: {error}")) from None

    async def _fail(self, scope: Scope, values: Mapping[str, str], judged: _Judged) -> None:
        """Fails a running instance whose report is refused: its client would leave it running until it is missed."""
        own = judged.token is not None and values["task_instance_id"].lower() == str(judged.token.subject)
        if not own or not judged.runs:
            return
        raw = json.dumps({"state": "failed", "end_date": datetime.now(UTC).isoformat()}).encode()

        async def ignore(message: Message) -> None:
            pass

        await self._app(sized(scope, raw), replay(raw, _disconnect), ignore)


async def _body(scope: Scope, receive: Receive, limit: int) -> bytes:
    raw = await read(scope, receive, limit)
    if raw is None:
        raise _Refused(Refusal(f"the request has more than {limit:,} bytes: pass data as an artifact", 413))
    return raw


def _json(raw: bytes) -> tuple[Any, bytes]:
    """Parses a judged body, and writes it anew: what Airflow reads is what was judged. Without JSON it is empty."""
    try:
        body = json.loads(raw) if raw else None
        return body, json.dumps(body).encode() if raw else b""
    except (ValueError, RecursionError):
        return None, b""


def _query(scope: Scope) -> Mapping[str, list[str]]:
    values = QueryParams(scope["query_string"])
    return {name: values.getlist(name) for name in values}


async def _disconnect() -> Message:
    return {"type": "http.disconnect"}


def _unrenewed(send: Send, *, but: int | None) -> Send:
    """Takes the renewed token out of the answer, unless it has a certain status."""

    async def without_token(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] != but:
            headers = [(name, value) for name, value in message["headers"] if name.lower() != _RENEWAL]
            message = {**message, "headers": headers}
        await send(message)

    return without_token


def _answer(refusal: Refusal) -> JSONResponse:
    detail = {"reason": "refused", "message": refusal.why, **refusal.details}
    return JSONResponse({"detail": detail}, refusal.status, {"connection": "close"} if refusal.status == 413 else None)

"""What the middlewares share: templates of routes, and bodies that are passed on to the application that they wrap."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from re import Pattern

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.routing import compile_path
from starlette.types import Message, Receive, Scope


@dataclass(frozen=True)
class Template:
    """A route of a table.

    Attributes:
        method: the HTTP method.
        path: the path's template, as in Airflow.
    """

    method: str
    path: str

    @cached_property
    def _pattern(self) -> Pattern[str]:
        return compile_path(self.path)[0]

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """Returns the values in a path; None if the route is another one."""
        found = self._pattern.match(path) if method == self.method else None
        return found and found.groupdict()


async def read(scope: Scope, receive: Receive, limit: int) -> bytes | None:
    """Reads the body; None as soon as it has more bytes than the limit, whether or not it states its length.

    Args:
        scope: the request.
        receive: receives the next part of the body.
        limit: the maximum number of bytes.

    Raises:
        ClientDisconnect: the client is gone before the body's end.
    """
    stated = Headers(scope=scope).get("content-length", "0")
    if not stated.isdigit() or int(stated) > limit:
        return None
    chunks, size = [], 0
    async for chunk in Request(scope, receive).stream():
        size += len(chunk)
        if size > limit:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def sized(scope: Scope, body: bytes) -> Scope:
    """Returns the scope with the length of the body that is passed on."""
    kept = [(name, value) for name, value in scope["headers"] if name not in (b"content-length", b"transfer-encoding")]
    return {**scope, "headers": [*kept, (b"content-length", str(len(body)).encode())]}


def replay(body: bytes, receive: Receive) -> Receive:
    """Returns a `receive` that delivers the body once, and then the client's messages."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return left.pop() if left else await receive()

    return next_message

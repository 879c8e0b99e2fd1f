"""Request bodies that a middleware has read: they are passed on, changed or not, to the application that it wraps."""

from __future__ import annotations

from starlette.types import Message, Receive, Scope


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

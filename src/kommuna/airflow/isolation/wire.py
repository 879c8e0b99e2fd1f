"""The frames between processor and parser: one byte for the kind, four for the length, then the payload.

A conversation, over TLS, one a file:

    processor  HELLO (token, team, version)         parser  READY, or WANT (send the bundle), or REFUSED (busy …)
    processor  BUNDLE (a tar), where wanted         parser  READY
    processor  PARSE (file, callbacks)              parser  ASK and LOG, as the team's code runs; then END
    processor  REPLY, one for each ASK

An ASK carries a request frame of Airflow's own supervisor protocol, unread by the parser's server; a REPLY its answer.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Mapping
from typing import Any

HELLO, BUNDLE, PARSE, REPLY = b"H", b"B", b"P", b"R"
READY, WANT, REFUSED, ASK, LOG, END = b"K", b"W", b"X", b"A", b"L", b"E"

KIB, MIB = 1024, 1024 * 1024
MAX_ANSWER = 8 * MIB  # 500 tasks with 8 KiB of templates each are half of it
MAX_BUNDLE = 64 * MIB
MAX_LOG_LINE = 16 * KIB
MAX_LOGS = 256 * KIB
TO_PARSER: Mapping[bytes, int] = {HELLO: 64 * KIB, BUNDLE: MAX_BUNDLE, PARSE: 4 * MIB, REPLY: MAX_ANSWER}
TO_PROCESSOR: Mapping[bytes, int] = {
    READY: 4 * KIB,
    WANT: 0,
    REFUSED: 4 * KIB,
    ASK: MAX_ANSWER,
    LOG: MAX_LOG_LINE,
    END: 4 * KIB,
}
HEADER = 5


class BadFrame(Exception):
    """The other side broke the protocol; the message says how."""


class Closed(Exception):
    """The other side closed the connection, or time is up; the message says which."""


def frame(kind: bytes, payload: bytes | Mapping[str, Any] = b"") -> bytes:
    """A whole frame; a mapping is written as JSON."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return kind + len(body).to_bytes(4, "big") + body


def header_of(head: bytes, allowed: Mapping[bytes, int]) -> tuple[bytes, int]:
    """Kind and length of a frame.

    Raises:
        BadFrame: a kind that has no business here, or more bytes than its kind may have.
    """
    kind, length = head[:1], int.from_bytes(head[1:HEADER], "big")
    if kind not in allowed:
        raise BadFrame(f"it sent a frame of the kind {kind!r}")
    if length > allowed[kind]:
        raise BadFrame(f"it sent {length:,} bytes in one frame, more than {allowed[kind]:,}")
    return kind, length


def fields_of(payload: bytes) -> dict[str, Any]:
    """A payload's JSON object.

    Raises:
        BadFrame: it is none.
    """
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise BadFrame(f"it sent no JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadFrame("it sent no JSON object")
    return value


class Wire:
    """The processor's end: blocking, with one deadline for the whole conversation, however slowly bytes drip.

    Args:
        connection: a connected socket.
        deadline: in seconds of `time.monotonic()`.
    """

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline

    def send(self, kind: bytes, payload: bytes | Mapping[str, Any] = b"") -> None:
        """Sends a frame.

        Raises:
            Closed: the other side is gone, or does not read until the deadline.
        """
        self._set_timeout()
        try:
            self._connection.sendall(frame(kind, payload))
        except TimeoutError:
            raise Closed("it stopped reading") from None
        except OSError as error:
            raise Closed(f"the connection broke: {error}") from None

    def receive(self) -> tuple[bytes, bytes]:
        """The next frame.

        Raises:
            Closed: the connection ended, or the deadline passed.
            BadFrame: it is none of those that a parser may send.
        """
        kind, length = header_of(self._exactly(HEADER), TO_PROCESSOR)
        return kind, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        buffer = bytearray()
        while len(buffer) < count:
            self._set_timeout()
            try:
                chunk = self._connection.recv(min(count - len(buffer), 256 * KIB))
            except TimeoutError:
                raise Closed("it did not end in time") from None
            except OSError as error:
                raise Closed(f"the connection broke: {error}") from None
            if not chunk:
                raise Closed("it closed the connection")
            buffer += chunk
        return bytes(buffer)

    def _set_timeout(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise Closed("it did not end in time")
        self._connection.settimeout(left)


async def receive(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The next frame, at the parser's end.

    Raises:
        Closed: the connection ended.
        BadFrame: it is none of those that a processor may send.
    """
    try:
        kind, length = header_of(await reader.readexactly(HEADER), TO_PARSER)
        return kind, await reader.readexactly(length)
    except (asyncio.IncompleteReadError, OSError) as error:
        raise Closed(str(error)) from None

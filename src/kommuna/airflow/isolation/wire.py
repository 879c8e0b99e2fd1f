"""The frames between processor and parser: one byte for the kind, four for the length, then the payload.

One conversation per file, over TLS:

    processor  HELLO (token, team, version)         parser  READY, or WANT (send the bundle), or REFUSED (busy …)
    processor  BUNDLE (a tar), after WANT           parser  READY
    processor  PARSE (file, callbacks)              parser  REQUEST and LOG, while team code runs; then END
    processor  REPLY, one for each REQUEST

A REQUEST carries a request frame of Airflow's supervisor protocol, which the parser's server does not read; a REPLY
carries the answer.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Mapping
from typing import Any

HELLO, BUNDLE, PARSE, REPLY = b"H", b"B", b"P", b"R"
READY, WANT, REFUSED, REQUEST, LOG, END = b"K", b"W", b"X", b"A", b"L", b"E"

KIB, MIB = 1024, 1024 * 1024
MAX_ANSWER = 8 * MIB  # twice what 500 tasks with 8 KiB of templates each need
MAX_BUNDLE = 64 * MIB
MAX_LOG_LINE = 16 * KIB
MAX_LOGS = 256 * KIB
TO_PARSER: Mapping[bytes, int] = {HELLO: 64 * KIB, BUNDLE: MAX_BUNDLE, PARSE: 4 * MIB, REPLY: MAX_ANSWER}
TO_PROCESSOR: Mapping[bytes, int] = {
    READY: 4 * KIB,
    WANT: 0,
    REFUSED: 4 * KIB,
    REQUEST: MAX_ANSWER,
    LOG: MAX_LOG_LINE,
    END: 4 * KIB,
}
HEADER = 5


class BadFrame(Exception):
    """The other side broke the protocol; the message says how."""


class Closed(Exception):
    """The other side closed the connection, or the deadline passed; the message says which."""


def frame(kind: bytes, payload: bytes | Mapping[str, Any] = b"") -> bytes:
    """Encodes a frame. A mapping is encoded as JSON."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return kind + len(body).to_bytes(4, "big") + body


def header_of(head: bytes, allowed: Mapping[bytes, int]) -> tuple[bytes, int]:
    """Decodes a frame's header to its kind and length.

    Args:
        head: the first `HEADER` bytes of a frame.
        allowed: the maximum length in bytes of each kind that may come here.

    Raises:
        BadFrame: the kind is not allowed here, or the frame is longer than its kind may be.
    """
    kind, length = head[:1], int.from_bytes(head[1:HEADER], "big")
    if kind not in allowed:
        raise BadFrame(f"it sent an unexpected frame {kind!r}")
    if length > allowed[kind]:
        raise BadFrame(f"it sent {length:,} bytes in one frame, more than {allowed[kind]:,}")
    return kind, length


def fields_of(payload: bytes) -> dict[str, Any]:
    """Decodes a payload that is a JSON object.

    Raises:
        BadFrame: it is not a JSON object.
    """
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise BadFrame(f"it sent invalid JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadFrame("it sent JSON that is not an object")
    return value


class Wire:
    """The processor's end: blocking, with one deadline for the whole conversation.

    Args:
        connection: a connected socket.
        deadline: in seconds of `time.monotonic()`.
    """

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline

    def send(self, kind: bytes, payload: bytes | Mapping[str, Any] = b"") -> None:
        """Sends a frame.

        Args:
            kind: one byte.
            payload: bytes, or a mapping that is encoded as JSON.

        Raises:
            Closed: the other side is gone, or stopped reading until the deadline.
        """
        self._set_timeout()
        try:
            self._connection.sendall(frame(kind, payload))
        except TimeoutError:
            raise Closed("it stopped reading") from None
        except OSError as error:
            raise Closed(f"the connection broke: {error}") from None

    def receive(self) -> tuple[bytes, bytes]:
        """Receives the next frame.

        Raises:
            Closed: the connection ended, or the deadline passed.
            BadFrame: a parser may not send this frame.
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
    """Receives the next frame at the parser's end.

    Raises:
        Closed: the connection ended.
        BadFrame: a processor may not send this frame.
    """
    try:
        kind, length = header_of(await reader.readexactly(HEADER), TO_PARSER)
        return kind, await reader.readexactly(length)
    except (asyncio.IncompleteReadError, OSError) as error:
        raise Closed(str(error)) from None

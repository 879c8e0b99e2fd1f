"""The parser's server: authenticates the platform's processor, and parses each file in its own process.

It holds no valuable secret: the certificate's key and the token's digest are for this parser only. The files' processes
are forks of a separate process (`multiprocessing`'s fork server), which never had either.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import multiprocessing
import ssl
from importlib.metadata import version
from pathlib import Path

from kommuna.airflow.isolation import shipping
from kommuna.airflow.isolation.parser.child import ParseLimits
from kommuna.airflow.isolation.parser.processes import close_memory
from kommuna.airflow.isolation.parser.run import FileRun
from kommuna.airflow.isolation.settings import ParserSettings
from kommuna.airflow.isolation.wire import (
    BUNDLE,
    HELLO,
    PARSE,
    READY,
    REFUSED,
    WANT,
    BadFrame,
    Closed,
    fields_of,
    frame,
    receive,
)
from kommuna.errors import DataError
from kommuna.processes import adopt_orphans
from kommuna.spec.resources import memory_bytes

GREETING_SECONDS = 10
BUNDLE_SECONDS = 60
MAX_CONNECTIONS = 32
VERSIONS_KEPT = 3

log = logging.getLogger("kommuna.parser")


class ClientRefused(Exception):
    """A connection is refused: `why` is the reason as a code, the message is for people."""

    def __init__(self, why: str, text: str) -> None:
        super().__init__(text)
        self.why = why


class ParserServer:
    """Parses files of one team's bundles for clients that have the token."""

    def __init__(self, settings: ParserSettings) -> None:
        self._settings = settings
        self._forks = multiprocessing.get_context("forkserver")
        self._forks.set_forkserver_preload(["kommuna.airflow.isolation.parser.warm"])
        self._connections = 0
        self._running: list[str] = []  # the versions of the files that are being parsed

    async def serve(self) -> None:
        """Warms up, and then listens until it is stopped. Once it accepts connections, it is ready."""
        adopt_orphans()
        close_memory()
        warm_up = self._forks.Process(target=_nothing)
        warm_up.start()
        await asyncio.to_thread(warm_up.join)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._settings.certificate, self._settings.key)
        host, _, port = self._settings.listen.rpartition(":")
        server = await asyncio.start_server(
            self._connected, host, int(port), ssl=context, ssl_handshake_timeout=GREETING_SECONDS
        )
        log.info("parser.ready team=%s listen=%s", self._settings.team, self._settings.listen)
        async with server:
            await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections > MAX_CONNECTIONS:
                raise ClientRefused("busy", f"{MAX_CONNECTIONS} connections are open")
            await self._serve_one(reader, writer)
        except ClientRefused as refusal:
            log.warning("parser.refused why=%s", refusal.why)
            with contextlib.suppress(OSError):
                writer.write(frame(REFUSED, {"why": refusal.why, "text": str(refusal)}))
                await writer.drain()
        except (BadFrame, Closed, TimeoutError, OSError) as error:
            log.warning("parser.broken_off %s", error)
        finally:
            self._connections -= 1
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind, payload = await asyncio.wait_for(receive(reader), GREETING_SECONDS)
        if kind != HELLO:
            raise BadFrame("the first frame is not HELLO")
        hello = fields_of(payload)
        self._admit(hello)
        bundle_version = str(hello.get("version", ""))
        self._running.append(bundle_version)
        try:
            folder = await self._bundle(bundle_version, reader, writer)
            writer.write(frame(READY, {"folder": str(folder)}))
            await writer.drain()
            kind, payload = await asyncio.wait_for(receive(reader), GREETING_SECONDS)
            if kind != PARSE:
                raise BadFrame("expected PARSE")
            limits = ParseLimits(memory_bytes(self._settings.memory), max(1, min(600, int(hello.get("seconds", 30)))))
            await FileRun(self._forks, fields_of(payload), folder, limits, reader, writer).run()
        finally:
            self._running.remove(bundle_version)

    def _admit(self, hello: dict[str, object]) -> None:
        """Checks that the client is the platform's processor of the same release, and that there is capacity.

        Raises:
            ClientRefused: it is not, or the parser is busy.
        """
        digest = hashlib.sha256(str(hello.get("token", "")).encode()).hexdigest()
        if not hmac.compare_digest(digest, self._settings.token_digest):
            raise ClientRefused("token", "the token does not match this parser")
        if hello.get("team") != self._settings.team:
            raise ClientRefused("team", f"this is the parser of team '{self._settings.team}'")
        if hello.get("airflow") != version("apache-airflow"):
            raise ClientRefused("version", f"this parser runs Airflow {version('apache-airflow')}")
        if len(self._running) >= self._settings.processes:
            raise ClientRefused("busy", f"{len(self._running)} files are being parsed")

    async def _bundle(self, wanted: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Path:
        """Returns the folder of the bundle at a version; requests the bundle if it is not here yet."""
        versions = self._settings.folder / "bundles"
        try:
            folder = shipping.folder_of(versions, wanted)
            if folder.is_dir():
                return folder
            writer.write(frame(WANT))
            await writer.drain()
            kind, archive = await asyncio.wait_for(receive(reader), BUNDLE_SECONDS)
            if kind != BUNDLE:
                raise BadFrame("expected BUNDLE")
            folder = await asyncio.to_thread(shipping.unpack, archive, versions, wanted)
            shipping.forget_old(versions, keep=VERSIONS_KEPT, in_use=set(self._running))
        except DataError as error:
            raise ClientRefused("bundle", str(error)) from None
        except OSError as error:
            raise ClientRefused("bundle", f"the bundle cannot be unpacked: {error}") from None
        return folder


def _nothing() -> None:
    """Is run by the first fork: once it has ended, the fork server has imported everything."""

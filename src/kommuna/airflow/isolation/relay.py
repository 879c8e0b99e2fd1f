"""The trusted half's child process for one file: sends the request to the team's parser and checks the answer.

It runs where stock Airflow would run the team's code: in a fork of the manager that ends with the file. So an answer
that crashes its reader crashes one file's child only.
"""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import msgspec
import structlog
from airflow.dag_processing.processor import DagFileParseRequest, DagFileParsingResult
from airflow.sdk.execution_time.comms import ErrorResponse, MaskSecret, _RequestFrame, _ResponseFrame
from pydantic import BaseModel, ValidationError

from kommuna.airflow.isolation.answer import Malformed, RequestedFile, checked_result, import_error
from kommuna.airflow.isolation.listing import MAX_SOURCE, is_plain
from kommuna.airflow.isolation.requests import MAX_REQUESTS, TEAM_REQUESTS, refusal
from kommuna.airflow.isolation.settings import ParserAddress
from kommuna.airflow.isolation.shipping import pack_commit, pack_folder
from kommuna.airflow.isolation.wire import (
    BUNDLE,
    END,
    HELLO,
    LOG,
    MAX_LOGS,
    PARSE,
    READY,
    REFUSED,
    REPLY,
    REQUEST,
    WANT,
    BadFrame,
    Closed,
    Wire,
    fields_of,
)
from kommuna.errors import KommunaError, PlatformFault
from kommuna.spec.team import Platform

CONNECT_SECONDS = 5
BUSY_WAIT_SECONDS = 0.5
PARSER_MARGIN_SECONDS = 8  # the parser stops a file this much before the relay gives up, so that it can report why


class ParserFault(BaseModel):
    """A message to the manager: the team's parser did not answer, so nothing is known about the file."""

    text: str
    began: bool
    """Whether the file's code may have run."""
    type: Literal["ParserFault"] = "ParserFault"


@dataclass(frozen=True)
class FileToParse:
    """One file to parse.

    Attributes:
        parser: the address of the team's parser.
        team: the team's name.
        platform: all teams.
        relative: the file's path relative to its bundle.
        bundle: the bundle's folder at the processor.
        version: the version of the bundle's contents.
        repository: the repository to pack the commit `version` from; None packs the folder as it is.
        below: the bundle's folder in the repository.
        seconds: the time limit for the whole conversation.
    """

    parser: ParserAddress
    team: str
    platform: Platform
    relative: str
    bundle: Path
    version: str
    repository: Path | None
    below: str
    seconds: float


def relay(target: FileToParse) -> None:
    """Runs the child. As in Airflow's own child, file descriptor 0 is the connection to the manager."""
    manager = _Manager()
    request = manager.request()
    conversation = _Conversation(target, request, manager)
    try:
        message: BaseModel | None = conversation.hold()
    except KommunaError as error:
        message = ParserFault(text=str(error), began=conversation.began)
    if message is not None:
        manager.send(message)


class _Manager:
    """The connection to the manager. Each reply is read at once, since the manager must never block."""

    def __init__(self) -> None:
        self._socket = socket.socket(fileno=0)
        self._count = 0

    def request(self) -> DagFileParseRequest:
        return DagFileParseRequest.model_validate(msgspec.msgpack.decode(self._frame(), type=_ResponseFrame).body)

    def send(self, message: BaseModel) -> bytes:
        """Sends a message, and returns the response's frame without its length."""
        self._count += 1
        frame = _RequestFrame(id=self._count, body=message.model_dump())
        self._socket.sendall(frame.as_bytes())
        return self._frame()

    def _frame(self) -> bytes:
        return self._exactly(int.from_bytes(self._exactly(4), "big"))

    def _exactly(self, count: int) -> bytes:
        buffer = bytearray()
        while len(buffer) < count:
            chunk = self._socket.recv(count - len(buffer))
            if not chunk:
                raise SystemExit("the manager is gone")
            buffer += chunk
        return bytes(buffer)


@dataclass
class _Conversation:
    """The exchange with the parser about one file."""

    target: FileToParse
    request: DagFileParseRequest
    manager: _Manager
    began: bool = False
    _request_count: int = 0
    _logged: int = 0
    _answer: dict[str, Any] | None = None
    _deadline: float = field(default_factory=time.monotonic)

    def hold(self) -> DagFileParsingResult | None:
        """Holds the exchange and returns the result to store; None for callbacks, which have no result.

        Raises:
            KommunaError: nothing is known about the file: the parser is unreachable, or stayed busy.
        """
        self._deadline = time.monotonic() + self.target.seconds
        requested = RequestedFile(self.target.team, self.target.platform, self.request.file, self.target.relative)
        path = Path(self.request.file)
        if not is_plain(self.target.bundle, self.target.relative) or path.stat().st_size > MAX_SOURCE:
            return import_error(
                requested, f"{self.target.relative} is not a regular file of at most {MAX_SOURCE // 1024} KiB"
            )
        try:
            wire, folder = self._open()
            with wire.connection:
                how = self._parse(wire)
        except BadFrame as error:
            return self._without_answer(requested, self._unusable(str(error)))
        except Closed as error:
            raise self._fault(f"broke off: {error}") from None
        requested = RequestedFile(
            self.target.team, self.target.platform, self.request.file, self.target.relative, folder
        )
        if self._answer is None:
            return self._without_answer(requested, _end_in_words(self.target.relative, how))
        try:
            return checked_result(self._answer, requested)
        except Malformed as error:
            return import_error(requested, self._unusable(str(error)))

    def _open(self) -> tuple[_OpenWire, str]:
        """Returns a connection on which the parser is ready, after retries while it is busy."""
        while True:
            wire = self._connect()
            hello = {
                "token": self.target.parser.token,
                "team": self.target.team,
                "version": self.target.version,
                "airflow": version("apache-airflow"),
                "seconds": max(1, int(self._deadline - time.monotonic() - PARSER_MARGIN_SECONDS)),
            }
            wire.send(HELLO, hello)
            kind, payload = wire.receive()
            if kind == WANT:
                wire.send(BUNDLE, self._packed())
                kind, payload = wire.receive()
            if kind == READY:
                return wire, str(fields_of(payload).get("folder", ""))[:1000]
            wire.connection.close()
            if kind != REFUSED:
                raise BadFrame(f"unexpected frame {kind!r}")
            why = fields_of(payload)
            if why.get("why") != "busy" or time.monotonic() + PARSER_MARGIN_SECONDS > self._deadline:
                raise self._fault(f"refuses: {str(why.get('text', ''))[:300]}")
            time.sleep(BUSY_WAIT_SECONDS)

    def _connect(self) -> _OpenWire:
        address = self.target.parser
        context = ssl.create_default_context(cafile=str(address.ca))
        try:
            plain = socket.create_connection((address.host, address.port), timeout=CONNECT_SECONDS)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return _OpenWire(context.wrap_socket(plain, server_hostname=address.host), self._deadline)
        except ssl.SSLCertVerificationError as error:
            raise self._fault(f"has no certificate of the platform: {error.verify_message}") from None
        except OSError as error:
            raise self._fault(f"does not answer: {error}") from None

    def _packed(self) -> bytes:
        target = self.target
        if target.repository is None:
            return pack_folder(target.bundle)
        return pack_commit(target.repository, target.version, below=target.below)

    def _parse(self, wire: _OpenWire) -> dict[str, Any]:
        """Sends the file's name and handles frames until END, which reports how the file's process ended."""
        callbacks = [callback.model_dump(mode="json") for callback in self.request.callback_requests]
        self.began = True
        wire.send(
            PARSE,
            {
                "file": self.target.relative,
                "original": self.request.file,
                "bundle_name": self.request.bundle_name,
                "callbacks": callbacks,
            },
        )
        while True:
            kind, payload = wire.receive()
            if kind == END:
                return fields_of(payload)
            if kind == LOG:
                self._log(payload)
            elif kind == REQUEST:
                wire.send(REPLY, self._reply_to(payload))
            else:
                raise BadFrame(f"unexpected frame {kind!r} while a file is parsed")

    def _reply_to(self, payload: bytes) -> bytes:
        """Returns the reply to one message of the file's process: keeps a result, passes an allowed request on."""
        try:
            frame = msgspec.msgpack.decode(payload, type=_RequestFrame)
        except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
            raise BadFrame(f"it sent a frame that is not Airflow's: {error}") from None
        body = frame.body or {}
        if body.get("type") == "DagFileParsingResult":
            if self._answer is not None:
                raise BadFrame("it sent two results")
            self._answer = body
            return _response(frame.id)
        self._request_count += 1
        if self._request_count > MAX_REQUESTS:
            raise BadFrame(f"it sent more than {MAX_REQUESTS} requests")
        try:
            request = TEAM_REQUESTS.validate_python(body)
        except ValidationError:
            return _response(
                frame.id, ErrorResponse(detail={"status_code": 400, "message": "a DAG file may not send this request"})
            )
        if isinstance(request, MaskSecret):
            return _response(frame.id)
        refused = refusal(request, self.target.team)
        if refused is not None:
            return _response(frame.id, refused)
        answer = msgspec.msgpack.decode(self.manager.send(request), type=_ResponseFrame)
        return msgspec.msgpack.encode(_ResponseFrame(id=frame.id, body=answer.body, error=answer.error))

    def _log(self, payload: bytes) -> None:
        """Logs one line of the file's process: its text, none of its keys."""
        self._logged += len(payload)
        if self._logged > MAX_LOGS:
            raise BadFrame(f"it logged more than {MAX_LOGS:,} bytes")
        try:
            line = fields_of(payload)
        except BadFrame:
            line = {"event": payload.decode(errors="replace")}
        write = {"error": log.error, "critical": log.error, "warning": log.warning}.get(
            str(line.get("level")), log.info
        )
        detail = {"detail": str(line["error_detail"])[:4000]} if line.get("error_detail") else {}
        write(str(line.get("event", ""))[:4000], source=str(line.get("logger", ""))[:200], **detail)

    def _without_answer(self, requested: RequestedFile, text: str) -> DagFileParsingResult | None:
        """Returns an import error; for callbacks, which have no result, it logs the text instead."""
        if not self.request.callback_requests:
            return import_error(requested, text)
        log.warning("callbacks.ended", text=text)
        return None

    def _unusable(self, text: str) -> str:
        return f"the answer of team {self.target.team}'s parser about {self.target.relative} is not usable: {text}"

    def _fault(self, text: str) -> PlatformFault:
        return PlatformFault(
            f"the team's parser at {self.target.parser.address} {text}",
            where=f"team {self.target.team}, {self.target.relative}",
            fix="ask MLOps to check the parser's pod; until it answers, the file's DAGs stay as they are",
        )


class _OpenWire(Wire):
    """A wire whose connection can be closed."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        super().__init__(connection, deadline)
        self.connection = connection


log = structlog.get_logger(logger_name="relay")


def _response(number: int, error: ErrorResponse | None = None) -> bytes:
    frame = _ResponseFrame(id=number, error=error.model_dump(mode="json") if error else None)
    return msgspec.msgpack.encode(frame)


def _end_in_words(file: str, how: dict[str, Any]) -> str:
    """Explains why a file's process left no result."""
    code = how.get("code")
    texts = {
        "time": "took too long and was stopped: importing a DAG file must take seconds",
        "processes": "started more than 64 processes and was stopped",
        "answer": "made an answer that is too large and was stopped: split its DAGs over several files",
    }
    text = texts.get(str(how.get("how")))
    if text is None:
        ended = f"signal {-code}" if isinstance(code, int) and code < 0 else f"exit code {code}"
        text = f"ended its own process, with {ended}, before its DAGs were read: drop sys.exit and the like"
    return f"{file} {text}"

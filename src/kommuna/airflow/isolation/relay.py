"""The trusted half's child for one file: takes the manager's request to the team's parser, and judges what comes back.

It runs where stock Airflow would run the team's code: in a fork of the manager, which ends with the file. So a
parser that sends what breaks a reader breaks one file's child.
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

from kommuna.airflow.isolation.answer import Asked, Malformed, judged, refused
from kommuna.airflow.isolation.asking import ASKS, MAX_ASKS, refusal
from kommuna.airflow.isolation.listing import MAX_SOURCE, is_plain
from kommuna.airflow.isolation.settings import ParserAddress
from kommuna.airflow.isolation.shipping import pack_commit, pack_folder
from kommuna.airflow.isolation.wire import (
    ASK,
    BUNDLE,
    END,
    HELLO,
    LOG,
    MAX_LOGS,
    PARSE,
    READY,
    REFUSED,
    REPLY,
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
TO_SPARE = 8  # seconds by which the parser ends a file before the relay gives up, so that it can say why


class ParserFault(BaseModel):
    """To the manager: the team's parser could not be asked, so nothing is known about the file."""

    text: str
    began: bool
    """Whether the file's code may have run."""
    type: Literal["ParserFault"] = "ParserFault"


@dataclass(frozen=True)
class Job:
    """One file to parse.

    Attributes:
        parser: the team's.
        team: its name.
        platform: every team.
        relative: the file below its bundle.
        bundle: the bundle at the processor.
        version: what the parser calls the bundle's contents.
        repository: where it is packed from, as `version`'s commit; None packs the folder as it is.
        below: the bundle's folder in the repository.
        seconds: that all of it may take.
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


def relay(job: Job) -> None:
    """The child's whole life; the manager is at file descriptor 0, as Airflow's own child has it."""
    manager = _Manager()
    request = manager.request()
    conversation = _Conversation(job, request, manager)
    try:
        message: BaseModel | None = conversation.hold()
    except KommunaError as error:
        message = ParserFault(text=str(error), began=conversation.began)
    if message is not None:
        manager.tell(message)


class _Manager:
    """The other end of file descriptor 0. Each answer is read before anything else: the manager must never wait."""

    def __init__(self) -> None:
        self._socket = socket.socket(fileno=0)
        self._count = 0

    def request(self) -> DagFileParseRequest:
        return DagFileParseRequest.model_validate(msgspec.msgpack.decode(self._frame(), type=_ResponseFrame).body)

    def tell(self, message: BaseModel) -> bytes:
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
    """What is said with the parser about one file."""

    job: Job
    request: DagFileParseRequest
    manager: _Manager
    began: bool = False
    _asks: int = 0
    _logged: int = 0
    _answer: dict[str, Any] | None = None
    _deadline: float = field(default_factory=time.monotonic)

    def hold(self) -> DagFileParsingResult | None:
        """The result to store; None for callbacks, which have none.

        Raises:
            KommunaError: nothing is known about the file: the parser is away, or busy all the time.
        """
        self._deadline = time.monotonic() + self.job.seconds
        asked = Asked(self.job.team, self.job.platform, self.request.file, self.job.relative)
        path = Path(self.request.file)
        if not is_plain(self.job.bundle, self.job.relative) or path.stat().st_size > MAX_SOURCE:
            return refused(asked, f"{self.job.relative} is no plain file of at most {MAX_SOURCE // 1024} KiB")
        try:
            wire, folder = self._open()
            with wire.connection:
                how = self._parse(wire)
        except BadFrame as error:
            return self._without_answer(asked, self._lie(str(error)))
        except Closed as error:
            raise self._fault(f"broke off: {error}") from None
        asked = Asked(self.job.team, self.job.platform, self.request.file, self.job.relative, folder)
        if self._answer is None:
            return self._without_answer(asked, _end_in_words(self.job.relative, how))
        try:
            return judged(self._answer, asked)
        except Malformed as error:
            return refused(asked, self._lie(str(error)))

    def _open(self) -> tuple[_OpenWire, str]:
        """A connection on which the parser is ready; while it is busy, asked again."""
        while True:
            wire = self._connect()
            hello = {
                "token": self.job.parser.token,
                "team": self.job.team,
                "version": self.job.version,
                "airflow": version("apache-airflow"),
                "seconds": max(1, int(self._deadline - time.monotonic() - TO_SPARE)),
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
                raise BadFrame(f"a frame of the kind {kind!r} where none was asked for")
            why = fields_of(payload)
            if why.get("why") != "busy" or time.monotonic() + TO_SPARE > self._deadline:
                raise self._fault(f"refuses: {str(why.get('text', ''))[:300]}")
            time.sleep(BUSY_WAIT_SECONDS)

    def _connect(self) -> _OpenWire:
        address = self.job.parser
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
        job = self.job
        if job.repository is None:
            return pack_folder(job.bundle)
        return pack_commit(job.repository, job.version, below=job.below)

    def _parse(self, wire: _OpenWire) -> dict[str, Any]:
        """Names the file and listens until the parser says that its process ended, and how."""
        callbacks = [callback.model_dump(mode="json") for callback in self.request.callback_requests]
        self.began = True
        wire.send(
            PARSE,
            {
                "file": self.job.relative,
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
            elif kind == ASK:
                wire.send(REPLY, self._asked(payload))
            else:
                raise BadFrame(f"a frame of the kind {kind!r} in the middle of a file")

    def _asked(self, payload: bytes) -> bytes:
        """The response to one message of the file's process: its result is kept, a question may be passed on."""
        try:
            frame = msgspec.msgpack.decode(payload, type=_RequestFrame)
        except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
            raise BadFrame(f"it sent no frame of Airflow's: {error}") from None
        body = frame.body or {}
        if body.get("type") == "DagFileParsingResult":
            if self._answer is not None:
                raise BadFrame("it sent two results")
            self._answer = body
            return _response(frame.id)
        self._asks += 1
        if self._asks > MAX_ASKS:
            raise BadFrame(f"it asked more than {MAX_ASKS} times")
        try:
            ask = ASKS.validate_python(body)
        except ValidationError:
            return _response(frame.id, ErrorResponse(detail={"status_code": 400, "message": "nothing to ask here"}))
        if isinstance(ask, MaskSecret):
            return _response(frame.id)
        refused_for = refusal(ask, self.job.team)
        if refused_for is not None:
            return _response(frame.id, refused_for)
        answer = msgspec.msgpack.decode(self.manager.tell(ask), type=_ResponseFrame)
        return msgspec.msgpack.encode(_ResponseFrame(id=frame.id, body=answer.body, error=answer.error))

    def _log(self, payload: bytes) -> None:
        """One line of the file's process, as a line of ours: its words, none of its keys."""
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
        write(str(line.get("event", ""))[:4000], said_by=str(line.get("logger", ""))[:200], **detail)

    def _without_answer(self, asked: Asked, text: str) -> DagFileParsingResult | None:
        """Callbacks leave no result, so there is none to refuse: what went wrong with them is in the log."""
        if not self.request.callback_requests:
            return refused(asked, text)
        log.warning("callbacks.ended", text=text)
        return None

    def _lie(self, text: str) -> str:
        return f"the answer of team {self.job.team}'s parser about {self.job.relative} is not usable: {text}"

    def _fault(self, text: str) -> PlatformFault:
        return PlatformFault(
            f"the team's parser at {self.job.parser.address} {text}",
            where=f"team {self.job.team}, {self.job.relative}",
            fix="the platform's people look at the parser's pod; until it answers, the file's DAGs stay as they are",
        )


class _OpenWire(Wire):
    """A wire that can be closed."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        super().__init__(connection, deadline)
        self.connection = connection


log = structlog.get_logger(logger_name="relay")


def _response(number: int, error: ErrorResponse | None = None) -> bytes:
    frame = _ResponseFrame(id=number, error=error.model_dump(mode="json") if error else None)
    return msgspec.msgpack.encode(frame)


def _end_in_words(file: str, how: dict[str, Any]) -> str:
    """Why a file's process left no result."""
    code = how.get("code")
    texts = {
        "time": "took too long and was ended: what a DAG file does while it is imported must take seconds",
        "processes": "started more than 64 processes and was ended",
        "answer": "makes an answer larger than one may be and was ended: split its DAGs over several files",
    }
    text = texts.get(str(how.get("how")))
    if text is None:
        ended = f"signal {-code}" if isinstance(code, int) and code < 0 else f"exit code {code}"
        text = f"ended its process by itself, with {ended}, before its DAGs were read: drop sys.exit and the like"
    return f"{file} {text}"

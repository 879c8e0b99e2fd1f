"""An OpenAI-compatible server for tests: it answers by a simple rule, with scripted faults."""

from __future__ import annotations

import gzip
import json
import math
import re
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a pod of the cluster has this file alone
    from tests.rigs.llm_batches import BatchDesk

Fault = Callable[["Handler"], bool]


@dataclass
class Received:
    """A received request."""

    body: dict[str, Any]
    headers: dict[str, str]
    at: float

    @property
    def asked(self) -> dict[str, Any]:
        """The user's message: questions and messages; none in a probe of what the server accepts."""
        content = self.body["messages"][-1]["content"]
        return dict(json.loads(content)) if content.startswith("{") else {"questions": {}, "messages": {}}

    @property
    def texts(self) -> list[str]:
        return list(self.asked["messages"].values())

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Returns every pair of a text and a question."""
        return [(text, question) for text in self.texts for question in self.asked["questions"].values()]


def mentioned(question: str, text: str) -> str:
    """Applies the rule: 'Does it mention X?' is yes if the text contains X, unknown if the text is a question."""
    word = question.rstrip("?").split()[-1].lower()
    if "???" in text:
        return "unknown"
    return "yes" if word in text.lower() else "no"


@dataclass
class LlmServer:
    """The server.

    Args:
        answer: a question and a text to the word that is answered.
        faults: what goes wrong with the next requests, in order; None is nothing.
        always: what goes wrong with every request after those.
        key: the only key that is let in, if any.
        model: the only model that is known, if any.
        most_characters: of a prompt; a longer one is refused as too long for the model.
        bills: a request's body to the prompt and completion tokens that the server counts; `billed` has them all.
        logprobs: whether answers have the probabilities of their tokens, if a request asks for them.
        sure: a question and a text to the probability of the word that is answered.
        desk: the server's files and batches, if it has any.
        lists: the ids that the server lists: `{"models": ["tiny"], "batches": []}`.
        json_schema: False refuses `response_format` of that type, as llama-cpp-python does.
    """

    answer: Callable[[str, str], str] = mentioned
    faults: list[Fault | None] = field(default_factory=list)
    always: Fault | None = None
    key: str = ""
    model: str = ""
    most_characters: int = 1_000_000
    json_schema: bool = True
    newer: bool = False
    usage: bool = True
    logprobs: bool = False
    sure: Callable[[str, str], float] = lambda _question, _text: 0.9
    desk: BatchDesk | None = None
    lists: dict[str, list[str]] = field(default_factory=dict)
    bills: Callable[[dict[str, Any]], tuple[int, int]] = lambda _: (100, 10)
    billed: list[tuple[int, int]] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    answered: list[Received] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None) -> LlmServer:
        self._http = _Http((host, port), Handler)
        if tls is not None:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        self._http.llm = self  # type: ignore[attr-defined]
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Returns every (text, question) that was answered."""
        return [pair for request in self.answered for pair in request.pairs]

    def next_fault(self) -> Fault | None:
        with self.lock:
            return self.faults.pop(0) if self.faults else self.always


class _Http(ThreadingHTTPServer):
    """A server with a larger backlog: Python's has five, and resets connections if sixteen arrive at once."""

    daemon_threads = True
    request_queue_size = 128


class Handler(BaseHTTPRequestHandler):
    """Handles one request."""

    protocol_version = "HTTP/1.1"
    request_body: dict[str, Any]

    @property
    def llm(self) -> LlmServer:
        return self.server.llm  # type: ignore[attr-defined, no-any-return]

    def log_message(self, *_: Any) -> None:
        """Logs nothing."""

    def do_GET(self) -> None:
        """Lists models and batches, as far as the server has such lists, and shows batches."""
        if self.llm.desk is not None and self.llm.desk.handle(self, b""):
            return
        listed = self.llm.lists.get(self.path.partition("?")[0].removeprefix("/v1/"))
        if listed is None:
            status(404, "Not Found")(self)
            return
        self.send(
            200, json.dumps({"object": "list", "data": [{"id": name} for name in listed], "has_more": False}).encode()
        )

    def do_DELETE(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        llm = self.llm
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        if llm.desk is not None and llm.desk.handle(self, raw):
            return
        self.request_body = json.loads(raw)
        received = Received(self.request_body, {k.lower(): v for k, v in self.headers.items()}, time.monotonic())
        with llm.lock:
            llm.received.append(received)
            llm.in_flight += 1
            llm.most_in_flight = max(llm.most_in_flight, llm.in_flight)
        try:
            fault = llm.next_fault()
            if (fault is not None and fault(self)) or self._refused():
                return
            with llm.lock:
                llm.answered.append(received)
            self.complete(json.dumps(self.plain_answer()))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with llm.lock:
                llm.in_flight -= 1

    def _refused(self) -> bool:
        llm, body = self.llm, self.request_body
        sent = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if llm.key and sent != llm.key:
            return status(401, f"Incorrect API key provided: {sent}", code="invalid_api_key")(self)
        if llm.model and body["model"] != llm.model:
            return status(404, f"The model `{body['model']}` does not exist", code="model_not_found")(self)
        if sum(len(message["content"]) for message in body["messages"]) > llm.most_characters:
            return status(400, "This model's maximum context length is 100 tokens", code="context_length_exceeded")(
                self
            )
        if not llm.json_schema and body["response_format"]["type"] == "json_schema":
            return status(500, "body.response_format.type: Input should be 'text' or 'json_object'")(self)
        if llm.newer and "max_tokens" in body:
            return status(400, "Unsupported parameter", param="max_tokens", code="unsupported_parameter")(self)
        if llm.newer and "temperature" in body:
            return status(400, "Unsupported value", param="temperature", code="unsupported_value")(self)
        return False

    def plain_answer(self) -> dict[str, Any]:
        content = self.request_body["messages"][-1]["content"]
        if not content.startswith("{"):
            form = self.request_body.get("response_format", {})
            schema = form.get("schema") or form.get("json_schema", {}).get("schema", {})
            return {
                name: value["enum"][0] for name, value in schema.get("properties", {"ok": {"enum": ["yes"]}}).items()
            }
        asked = json.loads(content)
        return {
            m: {q: self.llm.answer(question, text) for q, question in asked["questions"].items()}
            for m, text in asked["messages"].items()
        }

    def tokens(self, content: str) -> list[dict[str, Any]]:
        """Returns the tokens of an answer: the probability of a word is that of its two parts."""
        asked = self.request_body["messages"][-1]["content"]
        texts = json.loads(asked) if asked.startswith("{") else {"questions": {}, "messages": {}}
        found, message, question = [], "", ""
        for token in re.findall(r"\w+|\W+", content):
            message = token if token in texts["messages"] else message
            question = token if token in texts["questions"] else question
            if token not in ("yes", "no", "unknown") or not question:
                found.append({"token": token, "logprob": 0.0})
                continue
            logprob = math.log(self.llm.sure(texts["questions"][question], texts["messages"][message])) / 2
            found += [{"token": part, "logprob": logprob} for part in (token[:1], token[1:])]
        return found

    def complete(
        self, content: Any, *, finish: str = "stop", refusal: str | None = None, usage: str = "", **headers: str
    ) -> bool:
        """Sends and bills a completion; `usage` is JSON to send instead of the bill."""
        body = self.completion(content, finish=finish, refusal=refusal)
        counts = body.pop("usage", None)
        raw = json.dumps(body)
        if counts:
            raw = f'{raw[:-1]}, "usage": {usage or json.dumps(counts)}}}'
        return self.send(200, raw.encode(), headers)

    def completion(self, content: Any, *, finish: str = "stop", refusal: str | None = None) -> dict[str, Any]:
        """Bills a completion, and returns its body."""
        message = {"role": "assistant", "content": content, "refusal": refusal}
        body: dict[str, Any] = {
            "id": "x", "object": "chat.completion", "created": 0, "model": self.request_body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        }  # fmt: skip
        if self.llm.logprobs and self.request_body.get("logprobs"):
            body["choices"][0]["logprobs"] = {"content": self.tokens(content)}
        prompt, completion = self.llm.bills(self.request_body)
        with self.llm.lock:
            self.llm.billed.append((prompt, completion))
        if self.llm.usage:
            total = prompt + completion
            body["usage"] = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
        return body

    def send(self, code: int, raw: bytes, headers: dict[str, str] | None = None) -> bool:
        self.send_response(code)
        for name, value in ({"Content-Type": "application/json"} | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)
        return True


def status(number: int, message: str, *, headers: dict[str, str] | None = None, **fields: Any) -> Fault:
    """Returns an error in the format of the API."""
    raw = json.dumps({"error": {"message": message, "type": "error", "param": None, "code": None} | fields}).encode()
    return lambda handler: handler.send(number, raw, headers)


def cut(handler: Handler) -> bool:
    """Closes the connection in the middle of the body."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"id": "x", "choices": [')
    handler.wfile.flush()
    handler.close_connection = True
    return True


def hang(seconds: float) -> Fault:
    """Sends nothing for a while, then closes the connection."""

    def fault(handler: Handler) -> bool:
        time.sleep(seconds)
        handler.close_connection = True
        return True

    return fault


def drip(seconds: float) -> Fault:
    """Sends single bytes, each within the time-out, but never the whole body."""

    def fault(handler: Handler) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        for _ in range(int(seconds / 0.02)):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.02)
        handler.close_connection = True
        return True

    return fault


def body(raw: bytes) -> Fault:
    """Sends a response of status 200 with these bytes."""
    return lambda handler: handler.send(200, raw)


def counts(**usage: Any) -> Fault:
    """Sends an answer with another count of tokens, as it would stand in JSON."""

    def fault(handler: Handler) -> bool:
        message = {"role": "assistant", "content": json.dumps(handler.plain_answer())}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return handler.send(200, json.dumps({"choices": [choice], "usage": usage}).encode())

    return fault


def compressed(raw: bytes, *, encoding: str = "gzip") -> Fault:
    """Sends a compressed response of status 200 with these bytes."""
    return lambda handler: handler.send(200, gzip.compress(raw), {"Content-Encoding": encoding})


def says(content: Any, **how: Any) -> Fault:
    """Sends a complete response with this answer of the model."""
    return lambda handler: handler.complete(content, **how)


def refuses_where(word: str) -> Fault:
    """Makes the model refuse requests that contain a word."""

    def fault(handler: Handler) -> bool:
        if word in handler.request_body["messages"][-1]["content"]:
            return handler.complete(None, refusal="I can't help with that")
        return False

    return fault

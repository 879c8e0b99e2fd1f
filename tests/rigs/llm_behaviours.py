"""What LLM servers do besides answering, and what a run of `ask` rules must make of it: a table."""

from __future__ import annotations

import base64
import gzip
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from tests.rigs.llm_server import Fault, Handler, LlmServer, body, cut, drip, hang, says, status

from kommuna.errors import KommunaError, LlmSettings, LlmUnreachable

KEY = "sk-Very/Secret+Key==q7w9z3x5c1"
ODD = "odd"  # a word of the one message that `of_one` is about


@dataclass(frozen=True)
class Behaviour:
    """One behaviour of a server.

    Attributes:
        name: names the behaviour.
        set_up: makes a server behave so.
        lost: why the two answers about the odd message are missing; empty: every vote is right.
        error: the error of the run instead of votes.
        exact: whether the usage that the run reports is exactly what the server has billed, not an upper bound.
    """

    name: str
    set_up: Callable[[LlmServer], object]
    lost: str = ""
    error: type[KommunaError] | None = None
    exact: bool = True


def once(name: str, fault: Fault, *, exact: bool = True) -> Behaviour:
    """Two requests of the beginning fail: every vote is right."""

    def set_up(server: LlmServer) -> None:
        server.faults = [None, fault, fault]

    return Behaviour(name, set_up, exact=exact)


def of_one(name: str, fault: Fault, lost: str = "", *, exact: bool = True) -> Behaviour:
    """Requests with one message get this response, others an answer."""

    def set_up(server: LlmServer) -> None:
        server.always = lambda handler: ODD in handler.request_body["messages"][-1]["content"] and fault(handler)

    return Behaviour(name, set_up, lost, exact=exact)


def of_all(name: str, fault: Fault, error: type[KommunaError] | None = None, *, exact: bool = True) -> Behaviour:
    """Every request gets this response."""

    def set_up(server: LlmServer) -> None:
        server.always = fault

    return Behaviour(name, set_up, error=error, exact=exact)


def set_to(name: str, **values: object) -> Behaviour:
    """The server has other settings: every vote is right."""

    def set_up(server: LlmServer) -> None:
        for field, value in values.items():
            setattr(server, field, value)

    return Behaviour(name, set_up, exact=values.get("usage") is not False)


def answers(change: Callable[[dict[str, dict[str, str]]], object], **how: str) -> Fault:
    """Changes the right answer before it is sent; text is sent as it is."""

    def fault(handler: Handler) -> bool:
        changed = change(handler.plain_answer())
        return handler.complete(changed if isinstance(changed, str | list) else json.dumps(changed), **how)

    return fault


def usage(value: str) -> Fault:
    """Sends right answers with this value as both counts of tokens."""
    counts = f'{{"prompt_tokens": {value}, "completion_tokens": {value}}}'
    return lambda handler: handler.complete(json.dumps(handler.plain_answer()), usage=counts)


def without_response(handler: Handler) -> bool:
    handler.close_connection = True
    return True


def no_http(handler: Handler) -> bool:
    handler.wfile.write(b"I am not a web server\r\n\r\n")
    handler.close_connection = True
    return True


def gzipped(raw: bytes) -> Fault:
    return lambda handler: handler.send(200, raw, {"Content-Encoding": "gzip"})


def with_bom(handler: Handler) -> bool:
    return handler.send(200, b"\xef\xbb\xbf{}")


def echoes(number: int, form: Callable[[str], str] = str, *, before: int = 0) -> Fault:
    """Repeats the key and the client's messages in an error."""

    def fault(handler: Handler) -> bool:
        sent = form(handler.headers["Authorization"].removeprefix("Bearer "))
        words = json.dumps(handler.request_body["messages"], ensure_ascii=False)
        return status(number, f"{'x' * before} bad key {sent}: {words}", param="messages")(handler)

    return fault


def lacks(parameter: str, refusal: Fault) -> Fault:
    """Refuses requests with a parameter."""
    return lambda handler: parameter in handler.request_body and refusal(handler)


def error_200(**fields: object) -> Fault:
    return body(json.dumps({"error": fields}).encode())


_WORDS = "unsupported: temperature, response_format, json_schema, max_tokens; use max_completion_tokens"
_FASTAPI = json.dumps({"detail": [{"loc": ["body", "temperature"], "msg": "extra"}]}).encode()
_DEEP = "[" * 200_000
_PAST = "Wed, 21 Oct 2015 07:28:00 GMT"


def _spaced(key: str) -> str:
    return " ".join(key)


def _base64(key: str) -> str:
    return base64.b64encode(key.encode()).decode()


TRANSIENT = [
    *(
        once(f"status {number}", status(number, "try later"))
        for number in (408, 409, 425, 429, 500, 502, 503, 504, 529)
    ),
    once("429, wait 0 seconds", status(429, "slow", headers={"Retry-After": "0"})),
    once("429, wait until a date in the past", status(429, "slow", headers={"Retry-After": _PAST})),
    once("429, wait some milliseconds", status(429, "slow", headers={"retry-after-ms": "20"})),
    once("429, wait for nobody knows what", status(429, "slow", headers={"Retry-After": "soon"})),
    once("429, wait a negative time", status(429, "slow", headers={"Retry-After": "-5"})),
    once("500 with words about parameters", status(500, _WORDS)),
    once("503 that is HTML", lambda handler: handler.send(503, b"<html>down</html>")),
    once("the connection closes without a response", without_response, exact=False),
    once("no HTTP", no_http, exact=False),
    once("the body ends too early", cut, exact=False),
    once("no response in time", hang(0.6), exact=False),
    once("a response that trickles in", drip(0.6), exact=False),
    once("HTML with status 200", body(b"<html>gateway</html>"), exact=False),
    once("an empty body", body(b""), exact=False),
    once("half of a JSON body", body(b'{"id": "x", "choices": ['), exact=False),
    once("an empty object", body(b"{}"), exact=False),
    once("a list", body(b"[]"), exact=False),
    once("null", body(b"null"), exact=False),
    once("a number with 5,000 digits", body(b"1" * 5_000), exact=False),
    once("a body 200,000 deep", body(b'{"choices": ' + _DEEP.encode()), exact=False),
    once("bytes that are not UTF-8", body(b"\xff\xfe\x00{"), exact=False),
    once("a byte order mark", with_bom, exact=False),
    once("gzip that is not gzip", gzipped(b"plain"), exact=False),
    once("gzip of nothing useful", gzipped(gzip.compress(b"hello")), exact=False),
    once("no choices", body(b'{"choices": []}'), exact=False),
    once("choices that are null", body(b'{"choices": null}'), exact=False),
    once("a message that is null", body(b'{"choices": [{"message": null}]}'), exact=False),
    once("a message that is a text", body(b'{"choices": [{"message": "yes"}]}'), exact=False),
    once("an error with status 200: 429", error_200(message="slow", code=429)),
    once("an error with status 200: 502 as text", error_200(message="upstream", code="502")),
    once("an error with status 200 without a code", error_200(message="odd")),
    once("an error with status 200 that is a text", body(b'{"error": "overloaded"}')),
    once("an error in a choice", body(b'{"choices": [{"error": {"code": 503, "message": "x"}}]}')),
]

_LARGE = b'{"choices": "' + b"x" * 5_000_000 + b'"}'


def _redirect(number: int) -> Fault:
    return lambda handler: handler.send(number, b"", {"Location": "http://127.0.0.1:9/v1/chat/completions"})


CONTENT = [
    of_one("an answer of 5 MB", body(_LARGE), "malformed", exact=False),
    of_one("an answer of 5 MB, compressed", gzipped(gzip.compress(_LARGE)), "malformed", exact=False),
    of_one("an unknown compression", lambda handler: handler.send(200, b"{}", {"Content-Encoding": "br"}), "malformed",
           exact=False),
    of_one("content in parts", answers(lambda right: [{"type": "text", "text": json.dumps(right)}])),
    of_one("content in a fence", answers(lambda right: f"```json\n{json.dumps(right)}\n```")),
    of_one("capitals and blanks", answers(lambda right: json.dumps(right).replace('"yes"', '" YES "'))),
    of_one("more than was asked for", answers(lambda right: right | {"m99": {"q1": "yes"}, "why": "because"})),
    of_one("a key twice with one value", answers(lambda right: json.dumps(right)[:-1] + ", " + json.dumps(right)[1:])),
    of_one("an unknown finish reason", answers(lambda right: right, finish="eos")),
    of_one("cut, but complete", answers(lambda right: right, finish="length")),
    of_one("cut after the first message", answers(lambda right: json.dumps(right)[:40], finish="length")),
    of_one("content that is an object", says({"m1": {"q1": "yes"}}), "malformed"),
    of_one("content that is a number", says(17), "malformed"),
    of_one("content that is true", says(True), "malformed"),
    of_one("content that is null", says(None), "malformed"),
    of_one("content in odd parts", says([17, None, {"text": 3}]), "malformed"),
    of_one("no content", says(""), "malformed"),
    of_one("prose", says("Yes, it does."), "malformed"),
    of_one("a JSON list", says("[1, 2]"), "malformed"),
    of_one("a JSON text", says('"yes"'), "malformed"),
    of_one("a list 200,000 deep", says(_DEEP), "malformed"),
    of_one("an object 200,000 deep", says('{"m1": ' * 200_000), "malformed"),
    of_one("a number with 5,000 digits in the answer", says('{"m1": ' + "1" * 5_000 + "}"), "malformed"),
    of_one("an empty answer", says("{}"), "malformed"),
    of_one("answers in a list", says('{"m1": ["yes", "no"]}'), "malformed"),
    of_one("answers that are null", says('{"m1": {"q1": null, "q2": null}}'), "malformed"),
    of_one("unknown words", says('{"m1": {"q1": "maybe", "q2": "perhaps"}}'), "malformed"),
    of_one("a key twice with two values",
           says('{"m1": {"q1": "yes", "q1": "no", "q2": "yes", "q2": "no"}}'), "contradictory"),
    of_one("cut at once", says('{"m1": {"q1": "y', finish="length"), "cut"),
    of_one("a refusal", says(None, refusal="I can't help with that"), "refused"),
    of_one("filtered by the finish reason", says("", finish="content_filter"), "refused"),
    of_one("a call of a tool", says(None, finish="tool_calls"), "malformed"),
]  # fmt: skip

REJECTIONS = [
    of_one("400 for one message", status(400, "no"), "refused"),
    of_one("400 with words about parameters", status(400, _WORDS), "refused"),
    of_one("400 that repeats the message", echoes(400), "refused"),
    of_one("400 by a content filter", status(400, "filtered", code="content_filter"), "refused"),
    of_one("400 by a policy", status(400, "filtered", innererror={"code": "ContentPolicyViolation"}), "refused"),
    of_one("400 for a prompt that is too long", status(400, "long", code="context_length_exceeded"), "too_long"),
    of_one("400 for a prompt that is too long, in words", status(400, "maximum context length is 9"), "too_long"),
    of_one("413", status(413, "payload"), "too_long"),
    of_one("403 for a moderated message", status(403, "your input was flagged"), "refused"),
    of_one("403 with the flagged input", status(403, "x", metadata={"flagged_input": "y", "reasons": []}), "refused"),
    of_one("403 by a firewall", lambda handler: handler.send(403, b"<html>blocked</html>"), "refused"),
    of_one("422 for one message", status(422, "no"), "refused"),
    of_one("451 for one message", status(451, "no"), "refused"),
    of_one("418 for one message", status(418, "no"), "refused"),
    of_one("403 in an error with status 200", error_200(message="flagged", code=403), "refused"),
    of_one("500 for one message", status(500, "crash"), "lost"),
    of_one("500 that repeats the message", echoes(500), "lost"),
    of_one("503 for one message", status(503, "crash"), "lost"),
    of_one("a body 200,000 deep for one message", body(_DEEP.encode()), "lost", exact=False),
    of_one("an error with status 200 for one message", error_200(message="odd"), "lost"),
    of_one("the connection closes at one message", without_response, "lost", exact=False),
]

SETTINGS = [
    of_all("401", status(401, "no"), LlmSettings),
    of_all("403 for all", status(403, "no"), LlmSettings),
    of_all("404", status(404, "no"), LlmSettings),
    of_all("402", status(402, "Insufficient credits"), LlmSettings),
    of_all("400 for all", status(400, "no"), LlmSettings),
    of_all("400 for all with words about parameters", status(400, _WORDS), LlmSettings),
    of_all("an unknown model with status 400", status(400, "x", code="model_not_found"), LlmSettings),
    of_all("429 without credit", status(429, "quota", code="insufficient_quota"), LlmSettings),
    of_all("402 in an error with status 200", error_200(message="credits", code=402), LlmSettings),
    of_all("401 in an error with status 200", error_200(message="key", code=401), LlmSettings),
    of_all("a redirect to another host", _redirect(307), LlmSettings),
    of_all("a lasting redirect to another host", _redirect(308), LlmSettings),
    of_all("503 for all", status(503, "down"), LlmUnreachable),
    of_all("500 for all", status(500, "down"), LlmUnreachable),
    of_all("429, wait an hour", status(429, "quota", headers={"Retry-After": "3600"}), LlmUnreachable),
    of_all("no response to anything", without_response, LlmUnreachable),
    of_all("HTML for all", body(b"<html>"), LlmUnreachable),
    of_all("the key in an error", echoes(401), LlmSettings),
    of_all("the key in an error of every request", echoes(500), LlmUnreachable),
    of_all("the key at the end of a long error", echoes(401, before=290), LlmSettings),
    of_all("the key, URL-encoded", echoes(401, lambda key: quote(key, safe="")), LlmSettings),
    of_all("the key in base64", echoes(401, _base64), LlmSettings),
    of_all("the key in lower case", echoes(401, str.lower), LlmSettings),
    of_all("the key with blanks", echoes(401, _spaced), LlmSettings),
]

DIALECTS = [
    set_to("no json_schema", json_schema=False),
    set_to("newer parameters", newer=True),
    of_all("no response_format", lacks("response_format", status(400, "bad request"))),
    of_all("no response_format, by its name", lacks("response_format", status(400, "x", param="response_format"))),
    of_all("no temperature, by FastAPI", lacks("temperature", lambda handler: handler.send(422, _FASTAPI))),
    of_all("no temperature, in words", lacks("temperature", status(400, "temperature is not supported"))),
    of_all("no max_tokens, without a word", lacks("max_tokens", status(400, "bad request"))),
]

USAGE = [
    set_to("no usage", usage=False),
    *(
        of_all(f"usage {value}", usage(value), exact=False)
        for value in ("null", "0", "-5", "Infinity", "-Infinity", "NaN", "1e999", '"many"', "[]", "true", "9" * 30)
    ),
    of_all("usage that is null", lambda handler: handler.complete(json.dumps(handler.plain_answer()), usage="null"),
           exact=False),
    of_all("usage in fractions", usage("110.0"), exact=False),
]  # fmt: skip


def _slow(handler: Handler) -> bool:
    time.sleep(0.02)
    return False


OTHER = [
    of_all("slow answers", _slow),
    of_all("answers of the wrong type", lambda handler: handler.complete(
        json.dumps(handler.plain_answer()), **{"Content-Type": "text/html"})),
    Behaviour("an unknown key", lambda server: setattr(server, "key", "sk-other"), error=LlmSettings),
    Behaviour("an unknown model", lambda server: setattr(server, "model", "other"), error=LlmSettings),
    set_to("a short context", most_characters=1_500),
]  # fmt: skip

BEHAVIOURS = [*TRANSIENT, *CONTENT, *REJECTIONS, *SETTINGS, *DIALECTS, *USAGE, *OTHER]

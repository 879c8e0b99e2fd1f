"""Which errors are outages, and how they are retried."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests

from kommuna.errors import KommunaError, LlmUnreachable, Outage, SpecError, StoreUnreachable
from kommuna.outages import RetryPolicy, is_outage, wait_out
from kommuna.spec.step import StoreAddress
from kommuna.store import Store


class Answers(BaseHTTPRequestHandler):
    """Answers `/<status>` with that status."""

    def do_GET(self) -> None:
        self.send_response(int(self.path.split("/")[1][:3]))
        self.send_header("content-length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a server that answers with the requested status."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_address[1]}"
        made.shutdown()


def test_pauses_grow_and_sum_to_more_than_ten_minutes() -> None:
    pauses = list(RetryPolicy().pauses())
    assert sum(pauses) > 600
    assert sum(RetryPolicy(first=1, longest=1, total=10).pauses()) == pytest.approx(10, rel=0.2)
    assert all(later > earlier for earlier, later in pairwise(pauses[:5]))
    assert max(pauses) <= 60 * 1.2


def test_an_action_is_retried_until_the_service_is_back(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    errors: list[KommunaError] = [StoreUnreachable("the store is away"), LlmUnreachable("the LLM is away")]
    slept: list[float] = []

    def action() -> str:
        if errors:
            raise errors.pop(0)
        return "done"

    assert wait_out(action, sleep=slept.append) == "done"
    assert len(slept) == 2
    assert slept[0] < slept[1]
    shown = capsys.readouterr().out
    assert "the store is away" in shown
    assert "the LLM is away" in shown


def test_a_mistake_is_never_retried() -> None:
    calls = []

    def action() -> None:
        calls.append(1)
        raise SpecError("no such column")

    with pytest.raises(SpecError):
        wait_out(action, sleep=lambda _: pytest.fail("waited"))
    assert len(calls) == 1


def test_an_outage_that_does_not_end_is_reported_with_its_length() -> None:
    slept: list[float] = []

    def action() -> None:
        raise StoreUnreachable("the store is away", fix="start it")

    with pytest.raises(Outage, match=r"the store is away, for \d+ minutes") as error:
        wait_out(action, sleep=slept.append)
    assert len(slept) == len(list(RetryPolicy().pauses()))
    assert error.value.fix == "start it"


@pytest.mark.parametrize(("status", "expected"), [(500, True), (503, True), (429, True), (404, False), (403, False)])
def test_a_status_tells_a_server_failure_from_a_bad_request(server: str, status: int, expected: bool) -> None:
    with pytest.raises(requests.RequestException) as error:
        requests.get(f"{server}/{status}", timeout=5).raise_for_status()
    assert is_outage(error.value) is expected


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://nowhere.invalid"])
def test_a_refused_connection_and_an_unknown_host_are_outages(url: str) -> None:
    with pytest.raises(requests.RequestException) as error:
        requests.get(url, timeout=5)
    assert is_outage(error.value)
    wrapped = RuntimeError("the driver's own")
    wrapped.__cause__ = error.value
    assert is_outage(wrapped)


def test_plain_errors_and_wrong_certificates_are_not_outages(server: str, tmp_path: Path) -> None:
    with pytest.raises(requests.RequestException) as error:
        requests.get(server.replace("http:", "https:"), timeout=5)
    assert not is_outage(error.value)
    with pytest.raises(OSError) as missing:  # noqa: PT011
        (tmp_path / "x").read_bytes()
    assert not is_outage(missing.value)
    assert not is_outage(ValueError("x"))


@pytest.mark.parametrize(("status", "outage"), [("503", True), ("429", True), ("403", False)])
def test_a_store_distinguishes_an_outage_from_a_refusal(
    server: str, status: str, outage: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    options = {"key": "a", "secret": "b", "client_kwargs": {"endpoint_url": server, "region_name": "us-east-1"}}
    store = Store(StoreAddress(url=f"s3://{status}", options=options), "support")
    with pytest.raises(KommunaError) as error:
        store.manifest("a" * 64)
    assert isinstance(error.value, Outage) is outage

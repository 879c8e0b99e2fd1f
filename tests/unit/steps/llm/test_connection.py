"""The way to an endpoint: a proxy, and a private authority."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.rigs.llm_server import LlmServer

from kommuna.cluster.certificates import Pair, new_authority, new_certificate
from kommuna.errors import LlmSettings, LlmUnreachable
from kommuna.steps.llm.client import Model

Build = Callable[..., Model]

QUESTION = {"questions": {"q1": "Does it mention card?"}, "messages": {"m1": "my card"}}
ANSWER = {"m1": {"q1": "yes"}}


def ask(model: Model) -> dict[str, object]:
    return model.complete_json([{"role": "user", "content": json.dumps(QUESTION)}], {"type": "object"}, most_tokens=9)


def test_a_request_goes_to_the_proxy_and_names_the_endpoint(server: LlmServer, model: Build) -> None:
    """The endpoint's name exists nowhere: only the proxy, which answers here itself, can be reached."""
    asked = model(url="http://llm.bank.invalid/v1", proxy=server.url.removesuffix("/v1"))
    assert ask(asked) == ANSWER
    assert server.received[0].headers["host"] == "llm.bank.invalid"


@pytest.fixture
def authority(server: LlmServer, tmp_path: Path) -> Pair:
    """The authority of the server, which from now on speaks TLS."""
    made = new_authority("bank")
    own = new_certificate("localhost", made)
    (tmp_path / "server.pem").write_bytes(own.certificate + own.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    server._http.socket = context.wrap_socket(server._http.socket, server_side=True)
    return made


def test_only_the_named_authority_is_believed(server: LlmServer, model: Build, authority: Pair) -> None:
    url = server.url.replace("http://127.0.0.1", "https://localhost")
    assert ask(model(url=url, ca=authority.certificate.decode())) == ANSWER
    for other in ("", new_authority("bank").certificate.decode()):
        with pytest.raises(LlmUnreachable, match="certificate verify failed"):
            ask(model(url=url, ca=other))
    assert len(server.received) == 1


def test_a_broken_certificate_is_reported_before_anything_is_sent(server: LlmServer, model: Build) -> None:
    broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    with pytest.raises(LlmSettings, match="the certificates of the LLM's authority cannot be read"):
        ask(model(ca=broken))
    assert server.received == []

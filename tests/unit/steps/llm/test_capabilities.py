"""What an endpoint supports, and what is remembered of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from tests.rigs.llm_server import LlmServer, says, status

from kommuna.errors import LlmSettings, LlmUnreachable
from kommuna.spec.llm import LlmEndpoint
from kommuna.spec.step import StoreAddress
from kommuna.steps.llm.capabilities import capabilities_of, check_endpoint
from kommuna.steps.llm.dialect import Dialect
from kommuna.steps.llm.memory import DialectMemory


def found(server: LlmServer) -> dict[str, object]:
    plain = asdict(capabilities_of(LlmEndpoint(url=server.url, model="tiny")))
    assert plain.pop("seconds") > 0
    return plain


def test_an_endpoint_that_has_everything(server: LlmServer) -> None:
    server.lists = {"models": ["other", "tiny"], "batches": []}
    server.logprobs = True
    assert found(server) == {
        "listed": True, "structured": True, "form": "json_schema", "seeds": True, "logprobs": True, "batches": True,
    }  # fmt: skip


def test_an_endpoint_that_has_little(server: LlmServer) -> None:
    server.lists = {"models": ["other"]}

    def refuses(handler: object) -> bool:
        given = handler.request_body  # type: ignore[attr-defined]
        if {"seed", "logprobs", "response_format"} & set(given):
            return status(400, "unknown parameter")(handler)  # type: ignore[arg-type]
        return says('{"greeting": "hello"}')(handler)  # type: ignore[arg-type]

    server.always = refuses
    assert found(server) == {
        "listed": False, "structured": False, "form": "text", "seeds": False, "logprobs": False, "batches": False,
    }  # fmt: skip


def test_an_endpoint_without_a_list_of_models(server: LlmServer) -> None:
    assert found(server)["listed"] is None


def test_an_endpoint_that_cannot_be_used_says_why(server: LlmServer, free_port: Callable[[], int]) -> None:
    server.key = "sk-right"
    with pytest.raises(LlmSettings, match="rejects a request without a key"):
        found(server)
    down = LlmEndpoint(url=f"http://127.0.0.1:{free_port()}/v1", model="tiny")
    assert isinstance(check_endpoint(down), LlmUnreachable)


def test_a_dialect_is_remembered_for_the_endpoint_and_the_model(tmp_path: Path) -> None:
    shared = StoreAddress(url=tmp_path.as_uri())
    endpoint = LlmEndpoint(url="http://x/v1", model="tiny")
    memory = DialectMemory(shared, endpoint)
    assert memory.load() == Dialect()
    memory.save(Dialect("max_completion_tokens", False, "text"))
    assert DialectMemory(shared, endpoint).load() == Dialect("max_completion_tokens", False, "text")
    assert DialectMemory(shared, endpoint.model_copy(update={"model": "other"})).load() == Dialect()
    assert DialectMemory(None, endpoint).load() == Dialect()

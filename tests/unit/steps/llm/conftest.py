"""A server with scripted faults, and a model of it with a short retry policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.rigs.llm_server import LlmServer

from kommuna.spec.llm import Budget, LlmEndpoint
from kommuna.steps.llm.client import Model
from kommuna.steps.llm.session import LlmRetryPolicy


@pytest.fixture
def server() -> Iterator[LlmServer]:
    started = LlmServer().start()
    yield started
    started.stop()


@pytest.fixture
def model(server: LlmServer) -> Callable[..., Model]:
    """Builds a model: `model(tokens=…, money=…, timeout_seconds=…)`."""

    def build(
        *,
        tokens: int | None = None,
        money: float | None = None,
        retry_policy: LlmRetryPolicy | None = None,
        **fields: object,
    ) -> Model:
        endpoint = LlmEndpoint.model_validate({"url": server.url, "model": "tiny"} | fields)
        return Model(endpoint, Budget(tokens=tokens, money=money), retry_policy or LlmRetryPolicy(tries=4, pause=0.01))

    return build

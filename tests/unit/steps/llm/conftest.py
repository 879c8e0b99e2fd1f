"""A server that fails as it is told, and a model of it that loses its patience soon."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.rigs.llm_server import LlmServer

from kommuna.spec.llm import Budget, LlmEndpoint
from kommuna.steps.llm.client import Model
from kommuna.steps.llm.session import Patience


@pytest.fixture
def server() -> Iterator[LlmServer]:
    started = LlmServer().start()
    yield started
    started.stop()


@pytest.fixture
def model(server: LlmServer) -> Callable[..., Model]:
    """Builds a model: `model(tokens=…, money=…, timeout_seconds=…)`."""

    def build(
        *, tokens: int | None = None, money: float | None = None, patience: Patience | None = None, **fields: object
    ) -> Model:
        endpoint = LlmEndpoint.model_validate({"url": server.url, "model": "tiny"} | fields)
        return Model(endpoint, Budget(tokens=tokens, money=money), patience or Patience(tries=4, pause=0.01))

    return build

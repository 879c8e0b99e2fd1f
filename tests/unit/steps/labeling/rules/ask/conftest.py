"""An LLM server that answers by a fixed rule, the client of it, and a folder that runs share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from tests.rigs.llm_server import LlmServer

from kommuna.spec.llm import Asking, Budget, LlmEndpoint, Llms
from kommuna.spec.rules import RuleSet
from kommuna.spec.step import StoreAddress
from kommuna.steps.labeling.rules.ask.votes import AskVotes, ask_votes
from kommuna.steps.llm.client import Llm
from kommuna.steps.llm.session import LlmRetryPolicy

RULES = [
    {"name": "ask_card", "tag": "card", "ask": "Does it mention card?"},
    {"name": "ask_loan", "tag": "loan", "ask": "Does it mention loan?"},
]

Ask = Callable[..., AskVotes]


@pytest.fixture
def server() -> Iterator[LlmServer]:
    started = LlmServer().start()
    yield started
    started.stop()


@pytest.fixture
def shared(tmp_path: Path) -> StoreAddress:
    return StoreAddress(url=(tmp_path / "shared").as_uri())


@pytest.fixture
def ask(server: LlmServer, shared: StoreAddress) -> Ask:
    """Asks about texts: `ask(["my card", None], rules=[…], multi_label=…, money=…, max_failed=…, endpoint={…})`."""

    def ask(
        texts: list[str | None],
        *,
        rules: list[dict[str, object]] | None = None,
        multi_label: bool = False,
        endpoint: dict[str, object] | None = None,
        tokens: int | None = None,
        money: float | None = None,
        keep: bool = True,
        **asking: object,
    ) -> AskVotes:
        fields: dict[str, object] = {"url": server.url, "model": "tiny", "timeout_seconds": 60.0}
        light = LlmEndpoint.model_validate(fields | (endpoint or {}))
        llm = Llm(Llms(light=light), shared if keep else None, LlmRetryPolicy(tries=3, pause=0.01))
        rule_set = RuleSet.read(
            {"tags": ["card", "loan"], "rules": rules or RULES, "multi_label": multi_label}, where="test"
        )
        messages = pl.LazyFrame({"id": range(len(texts)), "text": texts}, schema={"id": pl.Int64, "text": pl.String})
        settings = Asking.model_validate({"budget": Budget(tokens=tokens, money=money), **asking})
        return ask_votes(messages, rule_set, llm, asking=settings)

    return ask

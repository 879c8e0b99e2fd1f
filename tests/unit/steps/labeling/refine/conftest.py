"""Generated messages whose tags follow from words, some of them ambiguous."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.rigs.llm_server import Handler

from kommuna.steps.labeling.refine.data import RefineData, read_refine_data
from kommuna.steps.llm.client import Llm

WORDS = {
    "card": ["lost my card", "card stolen", "block the card", "card is gone"],
    "loan": ["want a loan", "loan rate", "mortgage please", "credit for a house"],
    "fees": ["monthly fee", "why a commission", "charged too much", "fee again"],
}
FILLERS = ["hello", "good day", "please", "thanks", "can you help", "my app", "since monday", "it is urgent"]


def messages_of(rows: int, seed: int, prefix: str) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    tags = random.choice(list(WORDS), rows)
    texts = []
    for tag in tags:
        phrase = random.choice(WORDS[tag]) if random.random() < 0.9 else "a question"
        texts.append(f"{random.choice(FILLERS)}, {phrase} {random.choice(FILLERS)}")
    return pl.DataFrame({"id": [f"{prefix}{i}" for i in range(rows)], "text": texts, "tag": tags})


def respond(handler: Handler, content: str, *, tokens: int) -> bool:
    """Sends a response with its usage of tokens."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    usage = {"prompt_tokens": tokens - 10, "completion_tokens": 10, "total_tokens": tokens}
    body: dict[str, Any] = {
        "id": "x", "object": "chat.completion", "created": 0, "model": "heavy", "choices": [choice], "usage": usage,
    }  # fmt: skip
    return handler.send(200, json.dumps(body).encode())


@pytest.fixture(scope="session")
def answer_with() -> Callable[..., bool]:
    return respond


@pytest.fixture(scope="session")
def unlabeled() -> pl.LazyFrame:
    return messages_of(2_000, 1, "m").drop("tag").lazy()


@pytest.fixture(scope="session")
def dev() -> pl.DataFrame:
    return messages_of(200, 2, "d")


@pytest.fixture(scope="session")
def gold() -> pl.DataFrame:
    return messages_of(300, 3, "g")


@pytest.fixture(scope="session")
def data(unlabeled: pl.LazyFrame, dev: pl.DataFrame) -> RefineData:
    return refine_data_of(unlabeled, dev)


def refine_data_of(unlabeled: pl.LazyFrame, dev: pl.DataFrame, **options: bool) -> RefineData:
    several = options.get("multi_label", False)
    return read_refine_data(
        unlabeled, dev.lazy(), None, multi_label=several, key="id", text="text", label="tag", seed=0, llm=Llm()
    )


@pytest.fixture(scope="session")
def make_refine_data() -> Callable[..., RefineData]:
    return refine_data_of


@pytest.fixture(scope="session")
def make_messages() -> Callable[[int, int, str], pl.DataFrame]:
    return messages_of

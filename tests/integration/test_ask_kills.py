"""A step that asks an LLM is killed at random moments: it tells what was billed, and asks nothing twice."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.rigs.llm_server import Handler, LlmServer

from kommuna.spec.step import StepResult, StepSpec, StoreAddress
from kommuna.store import Store

RULES = """
tags: [card, loan]
rules:
  - {name: asked_card, tag: card, ask: "Does it mention card?"}
  - {name: asked_loan, tag: loan, ask: "Does it mention loan?"}
"""
ROWS = 1_000
PER_REQUEST = 5
CONCURRENCY = 4


def most_that_it_may_use(body: dict[str, Any]) -> tuple[int, int]:
    """Counts a request as Kommuna bounds it before it is sent: then a request in flight at a kill is told as billed."""
    schema = body["response_format"]["json_schema"]["schema"]
    prompt = sum(len(message["content"].encode()) + 64 for message in body["messages"]) + len(json.dumps(schema))
    return prompt, body["max_tokens"]


def slow(_: Handler) -> bool:
    time.sleep(0.05)
    return False


@pytest.fixture
def server() -> Iterator[LlmServer]:
    started = LlmServer(bills=most_that_it_may_use, always=slow).start()
    yield started
    started.stop()


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def store(tmp_path: Path, request: pytest.FixtureRequest) -> StoreAddress:
    """A store in a folder, or where a test asks for it on a real S3 server."""
    if getattr(request, "param", "folder") == "folder":
        return StoreAddress(url=(tmp_path / "store").as_uri())
    options = {"key": "a", "secret": "b", "client_kwargs": request.getfixturevalue("s3")}
    return StoreAddress(url=f"s3://artifacts/{tmp_path.name}", options=options)


@pytest.fixture
def start(tmp_path: Path, store: StoreAddress, server: LlmServer) -> Start:
    """Starts an attempt at the same step, in one process."""
    (tmp_path / "rules.yaml").write_text(RULES)
    texts = [f"{'card' if i % 2 else 'loan'} number {i:04d}" for i in range(ROWS)]
    pl.DataFrame({"id": range(ROWS), "text": texts}).write_parquet(tmp_path / "messages.parquet")
    light = {
        "url": server.url, "model": "tiny", "concurrency": CONCURRENCY, "input_price": 1.0, "output_price": 10.0,
    }  # fmt: skip

    def start(**budget: float) -> subprocess.Popen[str]:
        spec = StepSpec.model_validate(
            {
                "function": "kommuna.steps:apply_rules", "team": "support", "store": store,
                "inputs": {"messages": {"url": "messages.parquet"}, "rules": {"url": "rules.yaml"}},
                "params": {"asking": {"messages_per_request": PER_REQUEST, "budget": budget}},
                "services": {"llm": {"light": light}}, "bundle": str(tmp_path),
            }
        )  # fmt: skip
        (tmp_path / "spec.json").write_text(spec.model_dump_json())
        command = [sys.executable, "-m", "kommuna.runtime", "--here", "--spec", str(tmp_path / "spec.json")]
        return subprocess.Popen(
            [*command, "--result", str(tmp_path / "result.json")],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    return start


def kill_after(process: subprocess.Popen[str], server: LlmServer, requests: int, seconds: float) -> None:
    """Kills an attempt some seconds after its requests have been received; leaves one alone that has ended."""
    upto = len(server.received) + requests
    while process.poll() is None and len(server.received) < upto:
        time.sleep(0.005)
    time.sleep(seconds)
    process.kill()
    process.communicate()


def ended(process: subprocess.Popen[str], path: Path) -> StepResult:
    output, _ = process.communicate(timeout=200)
    result = StepResult.model_validate(json.loads(path.read_text()))
    assert result.exit_code == 0, output
    return result


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("kills", "seed", "store"),
    [
        (3, 1, "folder"),
        pytest.param(20, 2, "folder", marks=pytest.mark.slow),
        pytest.param(4, 3, "s3", marks=pytest.mark.slow),
    ],
    indirect=["store"],
)
def test_a_step_killed_at_random_tells_what_was_billed_and_asks_nothing_twice(
    start: Start, server: LlmServer, store: StoreAddress, tmp_path: Path, kills: int, seed: int
) -> None:
    """A request counts from just before it is sent: one that a kill kept from being sent may be told in vain."""
    chance = random.Random(seed)
    for _ in range(kills):
        kill_after(start(), server, chance.randint(1, 5), chance.random() * 0.05)
    time.sleep(0.2)  # the server bills the requests of those that have gone
    result = ended(start(), tmp_path / "result.json")
    manifest = Store(store, "support").manifest(result.key)
    assert manifest is not None
    told, billed = manifest.metrics, [most_that_it_may_use(request.body) for request in server.received]
    in_vain = told["llm_requests"] - len(billed)
    print(f"{kills} kills: {len(billed)} requests billed, {in_vain:g} told in vain, {told['llm_lost']:g} lost")
    one = max(billed)  # requests are of one size, but for the last of an attempt
    tokens, money = (sum(map(sum, billed)), sum(sent + 10 * got for sent, got in billed) / 1e6)
    assert 0 <= in_vain <= told["llm_lost"] <= kills * CONCURRENCY
    assert 0 <= told["llm_tokens_in"] + told["llm_tokens_out"] - tokens <= in_vain * sum(one)
    assert -1e-9 <= told["llm_cost"] - money <= in_vain * (one[0] + 10 * one[1]) / 1e6 + 1e-9
    asked = Counter(pair for request in server.received for pair in request.pairs)
    assert len(asked) == 2 * ROWS
    assert asked.total() - len(asked) <= told["llm_lost"] * 2 * PER_REQUEST  # only those in flight at a kill


@pytest.mark.timeout(900)
def test_a_budget_holds_over_kills(start: Start, server: LlmServer, tmp_path: Path) -> None:
    limit = 100_000  # 64 requests
    for _ in range(2):
        kill_after(start(tokens=limit), server, 5, 0.0)
    time.sleep(0.2)
    result = ended(start(tokens=limit), tmp_path / "result.json")
    told = result.metrics["llm_tokens_in"] + result.metrics["llm_tokens_out"]
    assert sum(map(sum, server.billed)) <= told <= limit
    assert told > limit - 2 * sum(most_that_it_may_use(server.received[0].body))
    assert result.metrics["ask_unasked"] > 0

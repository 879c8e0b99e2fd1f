"""`ask` rules in the runtime's process, on a real store: kills, concurrent runs, and the data that is sent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest
from tests.rigs.llm_behaviours import BEHAVIOURS, ODD
from tests.rigs.llm_server import Fault, Handler, LlmServer, hang
from tests.rigs.secrets_in import secrets_in

from kommuna.spec.step import StepResult, StepSpec, StoreAddress
from kommuna.store import Store
from kommuna.waiting import wait_until

RULES = """
tags: [card, loan]
rules:
  - {name: words, tag: loan, any: [loan]}
  - {name: asked_card, tag: card, ask: "Does it mention card?", no_is_against: true}
  - {name: asked_loan, tag: loan, ask: "Does it mention loan?"}
"""
ROWS = 200
PAIRS = 2 * ROWS


@pytest.fixture
def server() -> Iterator[LlmServer]:
    started = LlmServer(key="sk-very-secret", model="tiny").start()
    yield started
    started.stop()


@pytest.fixture(params=["file", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> StoreAddress:
    if request.param == "file":
        return StoreAddress(url=(tmp_path / "store").as_uri())
    where = request.getfixturevalue("s3")
    options = {"key": "a", "secret": "b", "client_kwargs": where}
    return StoreAddress(url=f"s3://artifacts/{tmp_path.name}", options=options)


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, address: StoreAddress, server: LlmServer) -> Start:
    """Starts `apply_rules` on 200 messages in the runtime."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "rules.yaml").write_text(RULES)
    texts = [
        f"{'card' if i % 2 else 'loan'} number {i}, call +7 916 555-{i % 90 + 10}-{i % 80 + 10}" for i in range(ROWS)
    ]
    pl.DataFrame({"id": range(ROWS), "text": texts}).write_parquet(bundle / "messages.parquet")

    def start(
        *, team: str = "support", asking: dict[str, Any] | None = None, result: str = "result.json", odd: bool = False
    ) -> Any:
        if odd:
            table = pl.DataFrame({"id": range(20), "text": [*texts[:19], f"{ODD} {texts[19]}"]})
            table.write_parquet(bundle / "messages.parquet")
        light = {
            "url": server.url, "model": "tiny", "key_variable": "BANK_LLM_KEY", "concurrency": 4,
            "input_price": 1.0, "output_price": 10.0,
        }  # fmt: skip
        spec = StepSpec.model_validate(
            {
                "function": "kommuna.steps:apply_rules",
                "team": team,
                "store": address,
                "inputs": {"messages": {"url": "messages.parquet"}, "rules": {"url": "rules.yaml"}},
                "params": {"asking": {"model": "tiny", "messages_per_request": 5, **(asking or {})}},
                "services": {"llm": {"light": light}},
                "bundle": str(bundle),
            }
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "kommuna.runtime", "--result", str(tmp_path / result)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "BANK_LLM_KEY": "sk-very-secret"},
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(spec.model_dump_json())
        process.stdin.close()
        process.stdin = None
        return process

    return start


def ended(process: subprocess.Popen[str], path: Path) -> StepResult:
    output, _ = process.communicate(timeout=120)
    result = StepResult.model_validate(json.loads(path.read_text()))
    assert result.exit_code == 0, output
    return result


def kept_answers(address: StoreAddress) -> int:
    """Returns the number of stored answers."""
    import io

    import fsspec

    fs, root = fsspec.core.url_to_fs(f"{address.url}/support/shared/answers", **address.options)
    fs.invalidate_cache()
    try:
        segments = [path for path in fs.find(root) if path.endswith(".parquet")]
    except FileNotFoundError:
        return 0
    return sum(pl.read_parquet(io.BytesIO(fs.cat_file(path)[:-32])).height for path in segments)  # without the checksum


def test_a_killed_run_keeps_its_answers_and_the_next_run_requests_only_the_rest(
    start: Start, address: StoreAddress, server: LlmServer, tmp_path: Path
) -> None:
    before: list[Fault | None] = [None] * 20
    server.faults, server.always = before, hang(60)  # twenty requests are answered, the others wait
    process = start()
    wait_until("the answers are kept", lambda: kept_answers(address) >= 20 * 10, seconds=100, every=0.1)
    for step in psutil.Process(process.pid).children(recursive=True):
        os.kill(step.pid, signal.SIGKILL)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    server.always = None
    first = set(server.pairs)
    assert len(first) == len(server.pairs) == 200

    result = ended(start(), tmp_path / "result.json")
    assert len(server.pairs) == len(set(server.pairs)) == PAIRS
    assert (result.metrics["ask_cached"], result.metrics["ask_answered"]) == (200, 200)
    metrics = result.metrics
    assert (metrics["llm_requests"], metrics["llm_lost"]) == (44, 4)  # four were in flight at the kill

    store = Store(address, "support")
    manifest = store.manifest(result.key)
    assert manifest is not None
    votes = pl.read_parquet(store.fetch(manifest.outputs["votes"], tmp_path))
    assert votes["id"].to_list() == list(range(ROWS))
    assert votes["asked_card"].to_list() == ["!card", "card"] * (ROWS // 2)
    assert votes["asked_loan"].to_list() == ["loan", None] * (ROWS // 2)
    assert votes["words"].to_list() == ["loan", None] * (ROWS // 2)


def test_the_manifest_has_the_cost_and_no_request_has_personal_data(
    start: Start, address: StoreAddress, server: LlmServer, tmp_path: Path
) -> None:
    process = start(asking={"budget": {"money": 1.0}})
    output, _ = process.communicate(timeout=120)
    result = StepResult.model_validate(json.loads((tmp_path / "result.json").read_text()))
    manifest = Store(address, "support").manifest(result.key)
    assert manifest is not None, output
    metrics = manifest.metrics
    assert (metrics["llm_requests"], metrics["llm_tokens_in"], metrics["llm_tokens_out"]) == (40, 4_000, 400)
    assert metrics["llm_cost"] == pytest.approx((4_000 * 1.0 + 400 * 10.0) / 1e6)
    assert 0 < metrics["llm_latency_p50"] <= metrics["llm_latency_p95"]
    assert metrics["ask_unmasked_rows"] == ROWS
    assert manifest.params["asking"]["model"] == "tiny"
    assert "916" not in str([request.body for request in server.received])
    assert all(request.headers["authorization"] == "Bearer sk-very-secret" for request in server.received)
    assert "sk-very-secret" not in manifest.model_dump_json() + output
    assert start().wait(120) == 0
    assert len(server.received) == 40


@pytest.mark.parametrize("address", ["file"], indirect=True)
@pytest.mark.parametrize(
    "name",
    [
        "the body ends too early",
        "an object 200,000 deep",
        "400 that repeats the message",
        "no json_schema",
        "the key in an error",
    ],
)
def test_neither_the_key_nor_personal_data_is_in_any_file_or_log(
    start: Start, server: LlmServer, tmp_path: Path, name: str
) -> None:
    (behaviour,) = (behaviour for behaviour in BEHAVIOURS if behaviour.name == name)
    behaviour.set_up(server)
    output, _ = start(odd=True, asking={"max_failed": 0.2}).communicate(timeout=120)
    result = StepResult.model_validate(json.loads((tmp_path / "result.json").read_text()))
    assert (result.exit_code == 0) == (behaviour.error is None), output
    if result.exit_code == 0:
        billed = sum(prompt for prompt, _ in server.billed)
        assert result.metrics["llm_tokens_in"] == billed or (
            not behaviour.exact and result.metrics["llm_tokens_in"] > billed
        )
    inputs = tmp_path / "bundle"
    files = [path for path in tmp_path.rglob("*") if path.is_file() and inputs not in path.parents]
    assert (tmp_path / "result.json") in files
    written = [output, *(path.read_bytes().decode("latin-1") for path in files)]
    assert secrets_in(written, ["sk-very-secret"]) == []
    assert secrets_in([*written, str([request.body for request in server.received])], ["+7 916 555"]) == []


def test_two_concurrent_runs_share_their_answers(
    start: Start, address: StoreAddress, server: LlmServer, tmp_path: Path
) -> None:
    processes = [start(asking={"max_failed": share}, result=f"{share}.json") for share in (0.1, 0.2)]
    results = [ended(process, tmp_path / f"{share}.json") for process, share in zip(processes, (0.1, 0.2), strict=True)]
    assert results[0].outputs == results[1].outputs  # the same votes, to the byte
    third = ended(start(asking={"max_failed": 0.3}), tmp_path / "result.json")
    assert (third.metrics["ask_cached"], third.metrics["llm_requests"]) == (PAIRS, 0)
    other = ended(start(team="fraud", asking={"max_failed": 0.3}), tmp_path / "result.json")
    assert other.metrics["ask_cached"] == 0  # another team's answers are its own


def slow(handler: Handler) -> bool:
    time.sleep(0.05)
    return False


def test_a_stopped_run_is_retried_and_continues(
    start: Start, address: StoreAddress, server: LlmServer, tmp_path: Path
) -> None:
    server.always = slow
    process = start()
    wait_until("50 answers are kept", lambda: kept_answers(address) >= 50, every=0.05)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 1  # worth a retry
    kept = kept_answers(address)
    result = ended(start(), tmp_path / "result.json")
    assert result.metrics["ask_cached"] == kept
    assert kept + result.metrics["ask_answered"] == PAIRS

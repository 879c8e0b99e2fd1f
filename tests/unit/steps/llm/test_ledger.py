"""The ledger: what a killed attempt was billed counts for the next one, and for the team's month."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.rigs.llm_server import LlmServer, hang, status

from kommuna.errors import BudgetSpent, KommunaError, StoreError
from kommuna.spec.llm import Budget, LlmEndpoint, Llms, done_name
from kommuna.spec.step import StoreAddress
from kommuna.steps.llm.client import Llm, Model
from kommuna.steps.llm.ledger import Billed, Commits, Ledger, billed_in, total
from kommuna.steps.llm.session import LlmRetryPolicy
from kommuna.waiting import wait_until

MESSAGES = [{"role": "user", "content": json.dumps({"questions": {"q1": "Is it card?"}, "messages": {"m1": "card"}})}]
SCHEMA: dict[str, Any] = {"type": "object"}
WORK = "a" * 64
MONTH = f"{datetime.now(UTC):%Y-%m}"


@pytest.fixture
def shared(tmp_path: Path) -> StoreAddress:
    return StoreAddress(url=(tmp_path / "shared").as_uri())


@pytest.fixture
def attempt(server: LlmServer, shared: StoreAddress) -> Callable[..., Model]:
    """Starts another attempt at the same work, as a new process would."""

    def attempt(budget: Budget | None = None, *, work: str = WORK) -> Model:
        light = LlmEndpoint(url=server.url, model="tiny", input_price=2.0, output_price=30.0)
        return Llm(Llms(light=light), shared, LlmRetryPolicy(tries=2, pause=0.01), work=work).light(budget)

    return attempt


def ask(model: Model) -> None:
    model.complete_json(MESSAGES, SCHEMA, most_tokens=50)


def test_a_retry_continues_with_the_bill_of_the_killed_attempt(attempt: Callable[..., Model]) -> None:
    ask(attempt())
    second = attempt()
    ask(second)
    metrics = second.metrics()
    assert (metrics["llm_requests"], metrics["llm_tokens_in"], metrics["llm_tokens_out"]) == (2, 200, 20)
    assert metrics["llm_cost"] == pytest.approx((200 * 2 + 20 * 30) / 1e6)
    assert attempt(work="b" * 64).metrics()["llm_requests"] == 0  # other work


def test_a_budget_continues_over_attempts(attempt: Callable[..., Model], server: LlmServer) -> None:
    bound = len(MESSAGES[0]["content"]) + 64 + len(json.dumps(SCHEMA)) + 50
    budget = Budget(tokens=110 + bound)
    ask(attempt(budget))
    ask(attempt(budget))
    with pytest.raises(BudgetSpent, match=r"220 tokens, 0\.0010 of money in 2 requests"):
        ask(attempt(budget))
    assert len(server.received) == 2


def test_a_stored_result_ends_the_work(attempt: Callable[..., Model], shared: StoreAddress) -> None:
    ask(attempt())
    folder = Path(shared.url.removeprefix("file://")) / "spending"
    (folder / done_name(WORK)).write_text("the manifest")
    assert attempt().metrics()["llm_requests"] == 0
    assert total(entry.billed for entry in billed_in(shared, MONTH)).requests == 1


def test_a_request_in_flight_at_the_kill_counts_at_its_bound(attempt: Callable[..., Model], server: LlmServer) -> None:
    server.always = hang(1.0)
    killed = attempt()

    def ask_in_vain() -> None:
        with pytest.raises(KommunaError):
            ask(killed)

    threading.Thread(target=ask_in_vain, daemon=True).start()
    wait_until("the request is sent", lambda: server.received, every=0.01)
    seen = attempt().metrics()  # as of now: the other one never ends
    bound = len(MESSAGES[0]["content"]) + 64 + len(json.dumps(SCHEMA))
    assert (seen["llm_requests"], seen["llm_lost"]) == (1, 1)
    assert (seen["llm_tokens_in"], seen["llm_tokens_out"]) == (bound, 50)


def test_an_error_that_is_not_billed_costs_nothing(attempt: Callable[..., Model], server: LlmServer) -> None:
    server.always = status(503, "boom")
    with pytest.raises(KommunaError):
        ask(attempt())
    metrics = attempt().metrics()
    assert (metrics["llm_requests"], metrics["llm_cost"]) == (2, 0)


def test_nothing_is_sent_if_the_bill_cannot_be_recorded(
    attempt: Callable[..., Model], server: LlmServer, shared: StoreAddress
) -> None:
    Path(shared.url.removeprefix("file://")).mkdir()
    model = attempt()
    assert model.metrics()["llm_requests"] == 0
    (Path(shared.url.removeprefix("file://")) / "spending").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="the stored records of LLM spending cannot be read or written"):
        ask(model)
    assert server.received == []


def test_the_month_is_the_sum_of_all_work(attempt: Callable[..., Model], shared: StoreAddress) -> None:
    for work in (WORK, "b" * 64, ""):
        ask(attempt(work=work))
    entries = billed_in(shared, MONTH)
    assert total(entry.billed for entry in entries).tokens == 330
    assert {entry.model for entry in entries} == {"tiny"}
    assert billed_in(shared, "2020-01") == []


def test_a_damaged_record_is_an_error(attempt: Callable[..., Model], shared: StoreAddress) -> None:
    ask(attempt())
    (path,) = (Path(shared.url.removeprefix("file://")) / "spending").glob("*.json")
    path.write_text("{")
    with pytest.raises(StoreError, match=f"the record of LLM spending {path.name} is damaged"):
        attempt().metrics()


def test_an_attempt_over_the_end_of_a_month_is_split(shared: StoreAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        now_is = datetime(2026, 11, 30, tzinfo=UTC)

        @classmethod
        def now(cls, _: object) -> datetime:
            return cls.now_is

    monkeypatch.setattr("kommuna.steps.llm.ledger.datetime", Clock)
    ledger = Ledger(shared, WORK, model="tiny", url="http://x/v1")
    ledger.write(Billed(requests=2, prompt_tokens=20), Billed(requests=1, lost=1, prompt_tokens=9))
    Clock.now_is = datetime(2026, 12, 1, tzinfo=UTC)
    ledger.write(Billed(requests=5, prompt_tokens=50), Billed())
    months = [total(entry.billed for entry in billed_in(shared, month)) for month in ("2026-11", "2026-12")]
    assert months == [Billed(requests=2, prompt_tokens=20), Billed(requests=3, prompt_tokens=30)]
    assert Ledger(shared, WORK, model="tiny", url="http://x/v1").earlier().prompt_tokens == 50


def test_those_who_come_during_a_write_share_the_next_one() -> None:
    state, written = 0, []

    def prepare() -> Callable[[], None]:
        seen = state

        def write() -> None:
            time.sleep(0.02)
            written.append(seen)

        return write

    async def many() -> None:
        nonlocal state
        commits = Commits(prepare)

        async def one() -> None:
            nonlocal state
            state += 1
            mine = state
            await commits.commit()
            assert written[-1] >= mine

        first = asyncio.create_task(one())
        await asyncio.sleep(0.01)
        await asyncio.gather(first, *(one() for _ in range(20)))

    asyncio.run(many())
    assert written == [1, 21]

"""Questions by batches: answered once, billed as the server counts, resumed after a kill without a second batch."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from tests.rigs.llm_batches import BatchDesk
from tests.rigs.llm_server import LlmServer, status
from tests.unit.steps.labeling.rules.ask.conftest import RULES

from kommuna.errors import LlmSettings, LlmUnreachable
from kommuna.spec.llm import Asking, Budget, LlmEndpoint, Llms
from kommuna.spec.rules import RuleSet
from kommuna.spec.step import StoreAddress
from kommuna.steps.labeling.rules.ask.answer_cache import AnswerCache
from kommuna.steps.labeling.rules.ask.votes import AskVotes, ask_votes
from kommuna.steps.llm import batches
from kommuna.steps.llm.batches import Batches
from kommuna.steps.llm.client import Llm
from kommuna.steps.llm.ledger import billed_in, total
from kommuna.steps.llm.session import LlmRetryPolicy
from kommuna.steps.llm.spending import Spending

TEXTS = [f"{'my card' if i % 2 else 'a loan'} number {i}" for i in range(40)]
CARDS = ["card" if i % 2 else None for i in range(40)]

Attempt = Callable[..., AskVotes]


@pytest.fixture
def desk(server: LlmServer, monkeypatch: pytest.MonkeyPatch) -> BatchDesk:
    monkeypatch.setattr(batches, "_POLL", 0.01)
    server.desk = BatchDesk()
    return server.desk


@pytest.fixture
def attempt(server: LlmServer, shared: StoreAddress) -> Attempt:
    """Runs one attempt at the same work: `attempt(TEXTS, tokens=…)`."""

    def run(texts: list[str] = TEXTS, *, tokens: int | None = None, batch_from: int = 20) -> AskVotes:
        light = LlmEndpoint(url=server.url, model="tiny", input_price=1.0, output_price=10.0)
        llm = Llm(Llms(light=light), shared, LlmRetryPolicy(tries=3, pause=0.01), work="the same")
        rules = RuleSet.read({"tags": ["card", "loan"], "rules": RULES}, where="test")
        messages = pl.LazyFrame({"id": range(len(texts)), "text": texts})
        asking = Asking(budget=Budget(tokens=tokens), batch_from=batch_from)
        return ask_votes(messages, rules, llm, asking=asking)

    return run


def told(found: AskVotes) -> tuple[float, float, float]:
    """Requests, tokens in and tokens out, as the metrics tell them."""
    return tuple(found.metrics[f"llm_{name}"] for name in ("requests", "tokens_in", "tokens_out"))  # type: ignore[return-value]


def billed(server: LlmServer) -> tuple[float, float, float]:
    """The same, as the server has counted them."""
    return len(server.billed), sum(sent for sent, _ in server.billed), sum(got for _, got in server.billed)


def test_a_big_step_is_one_batch(server: LlmServer, desk: BatchDesk, attempt: Attempt) -> None:
    found = attempt()
    assert found.votes["ask_card"].to_list() == CARDS
    assert len(desk.batches) == 1
    assert len(server.received) == 1  # the harmless one that finds out the form
    assert told(found) == billed(server) == (6, 600, 60)  # and five in the batch
    counts = {name: found.metrics[f"ask_{name}"] for name in ("wanted", "answered", "batched", "cached", "unasked")}
    assert counts == {"wanted": 80, "answered": 80, "batched": 80, "cached": 0, "unasked": 0}
    assert set(desk.deleted) == set(desk.files)  # the texts do not stay there
    again = attempt()
    assert again.votes.equals(found.votes)
    assert len(desk.batches) == 1


def test_a_small_step_and_an_endpoint_without_batches_are_asked_one_by_one(
    server: LlmServer, desk: BatchDesk, attempt: Attempt
) -> None:
    assert attempt(TEXTS[:5]).votes["ask_card"].to_list() == CARDS[:5]
    server.desk = None
    assert attempt().votes["ask_card"].to_list() == CARDS
    assert desk.batches == {}


def test_texts_are_masked_in_a_batch(desk: BatchDesk, attempt: Attempt) -> None:
    attempt(["my card 4276 3800 1234 5679 is lost", *TEXTS])
    sent = b"".join(desk.files.values()).decode()
    assert "[CARD]" in sent
    assert "3800" not in sent


class Killed(BaseException):
    """The process is gone: no handler of errors sees it."""


KILLS = [
    (Batches, "_keep", "after", 1),  # recorded, with no bound yet
    (Spending, "record_batch", "after", 1),  # with its bound
    (Batches, "_created", "before", 1),  # its file is there
    (Batches, "_created", "after", 1),  # submitted, the id is not recorded
    (Batches, "_keep", "after", 2),  # the id is recorded
    (Batches, "_state", "before", 1),  # waiting
    (AnswerCache, "write", "after", 1),  # the answers are stored
    (Spending, "record_batch", "after", 2),  # the bill as well
]


def kill_at(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, when: str, number: int) -> None:
    plain, calls = getattr(owner, name), iter(range(1, 100))

    async def asynchronous(*args: Any, **options: Any) -> Any:
        last = next(calls) == number
        if last and when == "before":
            raise Killed
        result = await plain(*args, **options)
        if last:
            raise Killed
        return result

    def synchronous(*args: Any, **options: Any) -> Any:
        result = plain(*args, **options)
        if next(calls) == number:
            raise Killed
        return result

    monkeypatch.setattr(owner, name, asynchronous if inspect.iscoroutinefunction(plain) else synchronous)


@pytest.mark.parametrize(
    ("owner", "name", "when", "number"), KILLS, ids=[f"{when} {name} {number}" for _, name, when, number in KILLS]
)
def test_a_killed_step_resumes_its_batch(
    server: LlmServer, desk: BatchDesk, attempt: Attempt, shared: StoreAddress,
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, when: str, number: int,
) -> None:  # fmt: skip
    with monkeypatch.context() as patched:
        kill_at(patched, owner, name, when, number)
        with pytest.raises(Killed):
            attempt()
    found = attempt()
    assert found.votes["ask_card"].to_list() == CARDS
    assert len(desk.batches) == 1
    assert told(found) == billed(server)
    month = f"{datetime.now(UTC):%Y-%m}"
    assert total(entry.billed for entry in billed_in(shared, month)).tokens == sum(map(sum, server.billed))


def test_a_batch_whose_creation_was_not_answered_is_not_sent_again(
    server: LlmServer, desk: BatchDesk, attempt: Attempt
) -> None:
    desk.lost = 1
    assert told(attempt()) == billed(server)
    assert len(desk.batches) == 1


def test_the_rest_of_an_expired_batch_is_asked_one_by_one(server: LlmServer, desk: BatchDesk, attempt: Attempt) -> None:
    desk.ends, desk.answered = "expired", 3
    found = attempt()
    assert found.votes["ask_card"].to_list() == CARDS
    assert found.metrics["ask_batched"] == 3 * 16
    assert told(found) == billed(server)


def test_a_cancelled_batch_ends_the_step_and_keeps_what_it_answered(
    server: LlmServer, desk: BatchDesk, attempt: Attempt
) -> None:
    desk.ends, desk.answered = "cancelled", 3
    with pytest.raises(LlmSettings, match=r"batch_0 was cancelled: 3 of 5 requests were answered"):
        attempt()
    desk.ends, desk.answered = "completed", None
    found = attempt()
    assert found.votes["ask_card"].to_list() == CARDS
    assert found.metrics["ask_cached"] == 3 * 16
    assert told(found) == billed(server)


def test_a_rejected_batch_fails_the_step_with_the_reason_and_costs_nothing(
    server: LlmServer, desk: BatchDesk, attempt: Attempt
) -> None:
    desk.ends = "failed"
    with pytest.raises(LlmSettings, match="too many tokens are enqueued"):
        attempt()
    server.desk = None
    assert told(attempt()) == billed(server)


@pytest.mark.parametrize(
    "result",
    [
        {"response": {"status_code": 400, "body": {"error": {"message": "moderated"}}}, "error": None},
        {"response": None, "error": {"code": "server_error", "message": "x"}},
        {"response": {"status_code": 500, "body": None}, "error": None},
        {"response": "?"},
    ],
    ids=["400", "error", "500", "odd"],
)
def test_what_fails_in_a_batch_is_asked_by_itself(
    server: LlmServer, desk: BatchDesk, attempt: Attempt, result: dict[str, Any]
) -> None:
    desk.instead = lambda name: result if name == "r1" else None
    found = attempt()
    assert found.votes["ask_card"].to_list() == CARDS
    assert found.metrics["ask_batched"] == 4 * 16
    assert told(found) == billed(server)


def test_results_that_are_odd_count_with_their_bound(server: LlmServer, desk: BatchDesk, attempt: Attempt) -> None:
    server.usage = False
    found = attempt()
    assert found.votes["ask_card"].to_list() == CARDS
    assert found.metrics["llm_tokens_in"] > billed(server)[1]


def test_an_outage_while_waiting_is_waited_out(server: LlmServer, desk: BatchDesk, attempt: Attempt) -> None:
    desk.faults = [None, None, None, status(503, "busy"), status(502, "gateway")]
    assert told(attempt()) == billed(server)
    assert len(desk.batches) == 1


def test_a_long_outage_ends_the_attempt_and_the_next_one_finds_the_batch(
    server: LlmServer, desk: BatchDesk, attempt: Attempt
) -> None:
    desk.faults = [None, None, None, *[status(503, "busy")] * 3]
    with pytest.raises(LlmUnreachable):
        attempt()
    assert told(attempt()) == billed(server)
    assert len(desk.batches) == 1


def test_a_budget_bounds_what_is_sent(server: LlmServer, desk: BatchDesk, attempt: Attempt) -> None:
    """A request's bound is some 2,000 tokens, and its bill 110."""
    found = attempt(tokens=5_000)
    assert found.votes["ask_card"].to_list() == CARDS
    assert len(desk.batches) >= 2
    assert told(found) == billed(server)
    bodies = [json.loads(line) for raw in desk.files.values() for line in raw.splitlines() if b'"method"' in line]
    assert len(bodies) == 5

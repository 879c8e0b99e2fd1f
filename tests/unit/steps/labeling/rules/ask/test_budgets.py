"""The budgets of `ask` rules: of the step, of the DAG run, and of the team and month; and the estimate before them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import polars as pl
import pytest
from tests.rigs.llm_server import LlmServer

from kommuna.errors import LlmSettings, TeamBudgetSpent
from kommuna.spec.llm import Asking, Budget, LlmBudgets, LlmEndpoint, Llms
from kommuna.spec.rules import RuleSet
from kommuna.spec.step import Services, StoreAddress
from kommuna.steps.labeling.rules.ask.estimate import expected_tokens
from kommuna.steps.labeling.rules.ask.prompt import prompt_in
from kommuna.steps.labeling.rules.ask.votes import AskVotes, ask_votes
from kommuna.steps.llm import allowance
from kommuna.steps.llm.client import Llm
from kommuna.steps.llm.spending import Tokens

RULES = RuleSet.read(
    {"tags": ["card"], "rules": [{"name": "a", "tag": "card", "ask": "Does it mention card?"}]}, where="test"
)
PER_REQUEST = 110  # tokens, by the server's count

Step = Callable[..., AskVotes]


@pytest.fixture(autouse=True)
def _read_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps read each other's spending ten times a second."""
    monkeypatch.setattr(allowance, "FRESH_SECONDS", 0.1)


@pytest.fixture
def step(server: LlmServer, shared: StoreAddress) -> Step:
    """Runs a step of team support: `step(texts, month=Budget(…), of_run=Budget(…), budget=Budget(…), run="d/1")`."""

    def run(
        texts: Sequence[str],
        *,
        month: Budget | None = None,
        of_run: Budget | None = None,
        budget: Budget | None = None,
        run: str = "d/1",
    ) -> AskVotes:
        services = Services(
            workspace="support",
            llm=Llms(light=LlmEndpoint(url=server.url, model="tiny", input_price=10.0, output_price=20.0)),
            llm_budgets=LlmBudgets(month=month or Budget(), run=of_run or Budget()),
            shared=shared,
            run=run,
        )
        messages = pl.LazyFrame({"id": range(len(texts)), "text": texts})
        asking = Asking(budget=budget or Budget())
        return ask_votes(messages, RULES, Llm.from_services(services), asking=asking)

    return run


def many(prefix: str, count: int) -> list[str]:
    return [f"{prefix} number {number}" for number in range(count)]


def test_a_step_that_will_not_fit_the_month_fails_before_it_asks(step: Step, server: LlmServer) -> None:
    with pytest.raises(TeamBudgetSpent) as error:
        step(many("card", 400), month=Budget(tokens=10_000))
    assert "the step needs about" in error.value.what
    assert "month" in error.value.what
    assert error.value.where == "kommuna.yaml: teams.support.llm"
    assert server.received == []


def test_a_step_whose_own_budget_fits_the_month_asks_as_far_as_it_reaches(step: Step, server: LlmServer) -> None:
    asked = step(many("card", 400), month=Budget(tokens=10_000), budget=Budget(tokens=5_000))
    assert 0 < asked.metrics["ask_answered"] < 400
    assert asked.metrics["ask_unasked"] == 400 - asked.metrics["ask_answered"]
    assert asked.metrics["llm_month_tokens_left"] == 10_000 - PER_REQUEST * len(server.received)


def test_what_earlier_steps_were_billed_counts_in_the_month_and_in_their_run(step: Step, server: LlmServer) -> None:
    budgets = {"month": Budget(tokens=100_000, money=0.1), "of_run": Budget(tokens=50_000)}
    first = step(many("card", 80), **budgets)
    second = step(many("loan", 80), **budgets)
    other = step(many("fees", 80), **budgets, run="d/2")
    assert len(server.received) == 30
    tokens = [asked.metrics["llm_month_tokens_left"] for asked in (first, second, other)]
    assert tokens == [100_000 - PER_REQUEST * count for count in (10, 20, 30)]
    of_run = [asked.metrics["llm_run_tokens_left"] for asked in (first, second, other)]
    assert of_run == [50_000 - PER_REQUEST * count for count in (10, 20, 10)]
    assert other.metrics["llm_month_money_left"] == pytest.approx(0.1 - 30 * (100 * 10 + 10 * 20) / 1e6)


def test_a_run_that_has_spent_its_budget_is_refused_and_another_run_is_not(step: Step) -> None:
    of_run = Budget(tokens=7_000)
    step(many("card", 80), of_run=of_run)
    with pytest.raises(TeamBudgetSpent, match="run d/1"):
        step(many("loan", 80), of_run=Budget(tokens=2_000))
    step(many("loan", 80), of_run=of_run, run="d/2")


def test_cached_answers_need_no_budget(step: Step, server: LlmServer) -> None:
    step(many("card", 80))
    sent = len(server.received)
    again = step(many("card", 80), month=Budget(money=0))
    assert (again.metrics["ask_cached"], again.metrics["ask_expected_tokens"], len(server.received)) == (80, 0, sent)


def test_the_next_request_of_a_running_step_is_refused_when_the_month_is_spent(step: Step, server: LlmServer) -> None:
    """The estimate fits, and what the server bills does not."""

    server.usage = False  # the bound counts: one token per byte
    with pytest.raises(TeamBudgetSpent, match="the next request needs about"):
        step(many("card", 200), month=Budget(tokens=15_000))
    assert 0 < len(server.received) < 25


def test_a_team_without_an_endpoint_is_told_where_to_be_named() -> None:
    llm = Llm.from_services(Services(workspace="fraud"))
    with pytest.raises(LlmSettings, match=r"no light LLM is configured for team fraud\n.*\n.*`llm\.light\.teams`"):
        ask_votes(pl.LazyFrame({"id": [1], "text": ["card"]}), RULES, llm)


def test_the_estimate_counts_distinct_texts_and_questions() -> None:
    def of(pending: dict[bytes, tuple[int, ...]], size: int = 40) -> tuple[int, Tokens]:
        sizes = dict.fromkeys(pending, size)
        return expected_tokens(pending, sizes, ["Is it a?", "Is it b?"], prompt_in("english"), messages_per_request=8)

    one = {bytes([i]): (0,) for i in range(80)}
    both = {bytes([i]): (0, 1) for i in range(80)}
    assert of({}) == (0, Tokens(0, 0))
    assert of(one)[0] == of(both)[0] == 10
    assert of(one | {bytes([200]): (0, 1)})[0] == 11
    assert of(both)[1].completion == 80 * (6 + 16)
    assert of(one, 440)[1].prompt - of(one)[1].prompt == 80 * 400 // 4


def test_steps_at_the_same_time_do_not_pass_the_month_together(
    step: Step, server: LlmServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server bills each request as Kommuna bounds it, so that nothing but the bounds keeps the budget."""
    monkeypatch.setattr(allowance, "FRESH_SECONDS", 1.0)
    server.bills = most_that_it_may_use
    limit = 40_000
    together = threading.Barrier(3)

    def one(name: str) -> None:
        together.wait()
        with suppress(TeamBudgetSpent):
            step(many(name, 400), month=Budget(tokens=limit), budget=Budget(tokens=limit), run=f"d/{name}")

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(one, ("card", "loan", "fees")))
    spent = sum(map(sum, server.billed))
    assert limit / 2 < spent <= limit


def most_that_it_may_use(body: dict[str, Any]) -> tuple[int, int]:
    schema = body["response_format"]["json_schema"]["schema"]
    prompt = sum(len(message["content"].encode()) + 64 for message in body["messages"]) + len(json.dumps(schema))
    return prompt, body["max_tokens"]

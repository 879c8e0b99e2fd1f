"""The budgets of a team, of a month and of a DAG run, over the records of all of its steps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kommuna.errors import TeamBudgetSpent
from kommuna.spec.llm import Budget, LlmBudgets
from kommuna.spec.step import StoreAddress
from kommuna.steps.llm import allowance, ledger
from kommuna.steps.llm.allowance import Allowance, least
from kommuna.steps.llm.ledger import Billed, Ledger


class Step:
    """A step of the team with one model, which was billed something."""

    def __init__(self, shared: StoreAddress, run: str, tokens: int, bound: int = 0, money: float = 0.0) -> None:
        self.ledger = Ledger(shared, model="m", url="http://x/v1", run=run)
        self.attempts = frozenset({self.ledger.attempt})
        self.held = Billed(prompt_tokens=tokens + bound, money=money)
        self.ledger.write(Billed(requests=1, prompt_tokens=tokens, money=money), Billed(prompt_tokens=bound))


@pytest.fixture
def shared(tmp_path: Path) -> StoreAddress:
    return StoreAddress(url=tmp_path.as_uri()).shared("support")


def left_of(
    shared: StoreAddress, budgets: LlmBudgets, *, run: str = "d/1", own: Step | None = None
) -> dict[str, int | None]:
    found = Allowance(budgets, shared, team="support", run=run)
    if own:
        found.add(own)
    found.refresh()
    return {left.what: left.tokens for left in found.left()}


def test_all_steps_count_in_the_month_and_those_of_the_run_in_the_run(shared: StoreAddress) -> None:
    month = f"month {datetime.now(UTC):%Y-%m}"
    Step(shared, "d/1", 100)
    Step(shared, "d/2", 30, bound=5)
    budgets = LlmBudgets(month=Budget(tokens=1000), run=Budget(tokens=500))
    assert left_of(shared, budgets) == {month: 865, "run d/1": 400}
    assert left_of(shared, budgets, run="") == {month: 865}
    own = Step(shared, "d/1", 7, bound=3)
    assert left_of(shared, budgets, own=own) == {month: 855, "run d/1": 390}  # once, though it is in the ledger


def test_a_run_that_began_in_the_month_before_still_counts(
    shared: StoreAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    class LastMonth(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime.now(UTC).replace(day=1) - timedelta(days=1)

    monkeypatch.setattr(ledger, "datetime", LastMonth)
    Step(shared, "d/1", 100)
    left = left_of(shared, LlmBudgets(month=Budget(tokens=1000), run=Budget(tokens=500)))
    assert sorted(left.values()) == [400, 1000]


def test_what_another_step_spends_is_seen_within_seconds(shared: StoreAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 1000.0
    monkeypatch.setattr(allowance.time, "monotonic", lambda: clock)
    watched = Allowance(LlmBudgets(month=Budget(tokens=100)), shared, team="support")
    need = Billed(prompt_tokens=60)
    watched.require(need)
    Step(shared, "d/2", 50)
    watched.require(need)
    clock += allowance.FRESH_SECONDS
    with pytest.raises(
        TeamBudgetSpent, match=r"needs about 60 tokens, .* team support leaves \(month .*: 50 of 100 tokens"
    ):
        watched.require(need)


def test_money_and_tokens_are_limits_each(shared: StoreAddress) -> None:
    Step(shared, "d/1", 10, money=0.9)
    watched = Allowance(LlmBudgets(month=Budget(tokens=100, money=1.0)), shared, team="support")
    watched.refresh()
    assert watched.fits(Billed(prompt_tokens=90, money=0.05))
    assert not watched.fits(Billed(prompt_tokens=91))
    assert not watched.fits(Billed(money=0.2))
    assert watched.metrics() == {"llm_month_tokens_left": 90.0, "llm_month_money_left": pytest.approx(0.1)}


def test_a_budget_of_zero_allows_nothing_and_none_allows_everything(shared: StoreAddress) -> None:
    for budget, fits in ((Budget(tokens=0), False), (Budget(money=0), False), (Budget(), True)):
        watched = Allowance(LlmBudgets(month=budget), shared, team="support")
        watched.refresh()
        assert watched.fits(Billed()) is fits


@pytest.mark.parametrize(
    ("budget", "tokens", "money"),
    [(Budget(), 1000, 2.0), (Budget(tokens=100), 100, 0.2), (Budget(money=1.0), 500, 1.0), (Budget(tokens=0), 0, 0.0)],
)
def test_a_step_needs_at_most_its_own_budget(budget: Budget, tokens: int, money: float) -> None:
    need = least(Billed(prompt_tokens=900, completion_tokens=100, money=2.0), budget)
    assert (need.tokens, need.money) == (tokens, money)

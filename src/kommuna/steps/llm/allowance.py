"""`Allowance`: what the team's budgets of the month and of the DAG run leave for requests to LLMs."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from kommuna.errors import TeamBudgetSpent
from kommuna.spec.llm import Budget, LlmBudgets
from kommuna.spec.step import StoreAddress
from kommuna.steps.llm.ledger import Billed, billed_in, total

FRESH_SECONDS = 5.0  # how old the figures of the team's other steps may be
_SHARE = 32  # a step uses no more than this part of what was left, by figures of one reading


class Account(Protocol):
    """What one model of this step was billed, such as `Spending`."""

    @property
    def attempts(self) -> frozenset[str]:
        """The attempts whose records in the ledger are its own."""

    @property
    def held(self) -> Billed:
        """What it was billed, with the bounds of its requests in flight."""


@dataclass(frozen=True)
class Left:
    """What one budget leaves.

    Attributes:
        what: what the budget is for: `month 2026-11`, `run topics/manual__1`.
        budget: the most that may be used.
        used: what was used, with the bounds of requests in flight.
    """

    what: str
    budget: Budget
    used: Billed

    @property
    def tokens(self) -> int | None:
        """Tokens that are left; None without a limit."""
        return None if self.budget.tokens is None else max(self.budget.tokens - self.used.tokens, 0)

    @property
    def money(self) -> float | None:
        """Money that is left; None without a limit."""
        return None if self.budget.money is None else max(self.budget.money - self.used.money, 0.0)

    def fits(self, need: Billed) -> bool:
        """Whether some more requests fit."""
        if 0 in (self.budget.tokens, self.budget.money):
            return False  # no request may be sent, even to an endpoint without a price
        return (self.tokens is None or need.tokens <= self.tokens) and (self.money is None or need.money <= self.money)

    def __str__(self) -> str:
        parts = [f"{self.tokens:,} of {self.budget.tokens:,} tokens"] if self.budget.tokens is not None else []
        parts += [f"{self.money:.4g} of {self.budget.money:g} of money"] if self.budget.money is not None else []
        return f"{self.what}: {' and '.join(parts) or 'no limit'} left"


class Allowance:
    """Knows what the team's steps were billed together, this one included.

    The figures of other steps are read from the team's ledger, and are up to `FRESH_SECONDS` old. Steps that run at the
    same time, up to sixteen, do not pass a budget together nevertheless. Each records a request before it sends it, and
    sends it by old figures only if it needs a small part of what is left (`admits`). For more it waits until no step
    relies on figures older than its record, and reads again (`Session.admit`).

    Args:
        budgets: the team's budgets.
        shared: the folder with the team's ledger; None: only this step counts.
        team: the team's name, for messages.
        run: the DAG run; empty: the budget of a run does not apply.
    """

    def __init__(
        self, budgets: LlmBudgets | None = None, shared: StoreAddress | None = None, *, team: str = "", run: str = ""
    ) -> None:
        budgets = budgets or LlmBudgets()
        kinds = {"month": budgets.month} | ({"run": budgets.run} if run else {})
        self._reading = threading.Lock()
        self._limits = {kind: budget for kind, budget in kinds.items() if budget != Budget()}
        self._shared = shared
        self._team = team
        self.run = run
        self._accounts: list[Account] = []
        self._month = ""
        self._others: dict[str, Billed] = {}
        self._read_at: float | None = None
        self._admitted = Billed()  # since then

    def add(self, account: Account) -> None:
        """Counts what a model of this step is billed."""
        self._accounts.append(account)

    @property
    def is_old(self) -> bool:
        """Whether `refresh` would read the ledger; without a limit it never does."""
        recent = self._read_at is not None and time.monotonic() - self._read_at < FRESH_SECONDS
        return bool(self._limits) and not recent

    def refresh(self, *, since: float | None = None) -> None:
        """Reads what other steps were billed, unless that was done a moment ago.

        Args:
            since: reads again if the last reading began before this time, in seconds of `time.monotonic`.

        Raises:
            StoreError: the ledger cannot be read.
        """
        with self._reading:
            if self.is_old or (since is not None and self._limits and (self._read_at or 0.0) < since):
                self._read()

    def _read(self) -> None:
        began = time.monotonic()
        now = datetime.now(UTC)
        months = [f"{now:%Y-%m}"]
        if self.run:  # it may have begun in the month before
            months.append(f"{now.replace(day=1) - timedelta(days=1):%Y-%m}")
        own = frozenset[str]().union(*(account.attempts for account in self._accounts))
        found = {
            month: [entry for entry in billed_in(self._shared, month) if entry.attempt not in own]
            for month in months if self._shared is not None
        }  # fmt: skip
        self._month = months[0]
        self._others = {
            "month": total(entry.billed for entry in found.get(months[0], ())),
            "run": total(entry.billed for entries in found.values() for entry in entries if entry.run == self.run),
        }
        self._read_at, self._admitted = began, Billed()

    def admits(self, need: Billed) -> bool:
        """Whether a recorded request may be sent by the figures of the last `refresh`.

        Args:
            need: the most that it is billed; it is part of what is held.
        """
        if not self._limits:
            return True
        used = self._admitted + need
        small = all(
            (left.tokens is None or _SHARE * used.tokens <= left.tokens + need.tokens)
            and (left.money is None or _SHARE * used.money <= left.money + need.money)
            for left in self.left()
        )
        if self.is_old or not small:
            return False
        self._admitted = used
        return True

    @property
    def exceeded(self) -> bool:
        """Whether the team's steps were billed more than a budget, with the bounds of requests in flight."""
        return any(
            (left.budget.tokens is not None and left.used.tokens > left.budget.tokens)
            or (left.budget.money is not None and left.used.money > left.budget.money)
            for left in self.left()
        )

    def left(self) -> list[Left]:
        """Returns what each budget with a limit leaves, by the figures of the last `refresh`."""
        if not self._limits:
            return []
        own = total(account.held for account in self._accounts)
        names = {"month": f"month {self._month}", "run": f"run {self.run}"}
        return [
            Left(names[kind], budget, self._others.get(kind, Billed()) + own) for kind, budget in self._limits.items()
        ]

    def fits(self, need: Billed) -> bool:
        """Whether some more requests fit all budgets."""
        return all(left.fits(need) for left in self.left())

    def spent(self, need: Billed, what: str) -> TeamBudgetSpent:
        """Returns the error for requests that do not fit.

        Args:
            need: what they need.
            what: what they are: `the next request`, `the step`.
        """
        missing = [str(left) for left in self.left() if not left.fits(need)]
        return TeamBudgetSpent(
            f"{what} needs about {need.tokens:,} tokens, {need.money:.4g} of money: more than the LLM budget of team "
            f"{self._team} leaves ({'; '.join(missing)})",
            where=f"kommuna.yaml: teams.{self._team}.llm",
            fix="give the step a `budget` that fits, ask fewer questions, or have the team's budget raised (on "
            "Kubernetes in the chart's values); answers so far are kept",
        )

    def require(self, need: Billed) -> None:
        """Checks that what a step is expected to need fits, before it sends anything.

        Raises:
            TeamBudgetSpent: it does not.
        """
        self.refresh()
        if not self.fits(need):
            raise self.spent(need, "the step")

    def metrics(self) -> dict[str, float]:
        """Returns what the budgets leave: `llm_month_tokens_left`, `llm_run_money_left`, … ."""
        found: dict[str, float] = {}
        for left in self.left():
            kind = left.what.partition(" ")[0]
            for unit, value in (("tokens", left.tokens), ("money", left.money)):
                if value is not None:
                    found[f"llm_{kind}_{unit}_left"] = float(value)
        return found


def least(need: Billed, budget: Budget) -> Billed:
    """Returns what a step uses at most: what it is expected to need, or its own budget if that is less.

    Args:
        need: what it is expected to need.
        budget: the step's budget.
    """
    shares = [1.0]
    if budget.tokens is not None and need.tokens:
        shares.append(budget.tokens / need.tokens)
    if budget.money is not None and need.money:
        shares.append(budget.money / need.money)
    share = min(shares)
    return Billed(
        requests=round(need.requests * share),
        prompt_tokens=round(need.prompt_tokens * share),
        completion_tokens=round(need.completion_tokens * share),
        money=need.money * share,
    )

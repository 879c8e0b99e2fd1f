"""`Spending`: the tokens and money that requests to one model have used, checked against a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from kommuna.spec.llm import Budget, LlmEndpoint
from kommuna.steps.llm.allowance import Allowance
from kommuna.steps.llm.ledger import Billed, Ledger, total

_MILLION = 1_000_000
_NOTHING = Billed()


@dataclass(frozen=True)
class Tokens:
    """The tokens of one request, or the most that it may use."""

    prompt: int
    completion: int

    @property
    def total(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt + self.completion

    def __add__(self, other: Tokens) -> Tokens:
        """Returns the tokens of both."""
        return Tokens(self.prompt + other.prompt, self.completion + other.completion)


@dataclass
class BatchBill:
    """What one batch is billed.

    Attributes:
        month: the month, in UTC, in which it was sent.
        settled: its requests whose outcome is known.
        open: the upper bound of the others.
    """

    month: str
    settled: Billed
    open: Billed


@dataclass
class Spending:
    """Tracks what requests to one model use, over all attempts at a step's work.

    A request reserves the most that it may use before it is sent, so concurrent requests never exceed the budget
    together. An answer that was lost counts as that upper bound, because the server may bill it. So does a request
    that was in flight when an earlier attempt was killed.

    Attributes:
        endpoint: the model, with its prices.
        budget: the most that all attempts may use together.
        ledger: knows what earlier attempts used, and records what this one uses; None: this attempt is the only one.
        allowance: what the team's budgets leave; None: they have no limit.
        requests: the number of this attempt's requests, as all counts below.
    """

    endpoint: LlmEndpoint
    budget: Budget
    ledger: Ledger | None = None
    allowance: Allowance | None = None
    requests: int = 0
    retries: int = 0
    lost: int = 0
    masked: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: list[float] = field(default_factory=list)
    _reserved: list[Tokens] = field(default_factory=list)
    _batches: dict[str, BatchBill] = field(default_factory=dict)

    def price(self, tokens: Tokens) -> float:
        """Returns the price of tokens in the currency of the endpoint's prices."""
        endpoint = self.endpoint
        return (tokens.prompt * endpoint.input_price + tokens.completion * endpoint.output_price) / _MILLION

    @property
    def total(self) -> Billed:
        """What all attempts were billed, without the requests in flight."""
        return self._earlier + self._own + total(batch.settled for batch in self._batches.values())

    @property
    def cost(self) -> float:
        """The money that all attempts spent, in the currency of the endpoint's prices."""
        return self.total.money

    @property
    def attempts(self) -> frozenset[str]:
        """The names of this attempt's records in the ledger: its own, and those of the batches that it waits for."""
        return frozenset({self.ledger.attempt} if self.ledger is not None else ()) | self._batches.keys()

    @property
    def held(self) -> Billed:
        """What this attempt was billed, with the bounds of requests in flight and of open batches."""
        settled = total(batch.settled for batch in self._batches.values())
        return self._own + settled + self._bound

    @property
    def budget_left(self) -> Budget:
        """What all attempts have left of the step's budget."""
        used, budget = self.total, self.budget
        return Budget(
            tokens=None if budget.tokens is None else max(budget.tokens - used.tokens, 0),
            money=None if budget.money is None else max(budget.money - used.money, 0.0),
        )

    def bill(self, tokens: Tokens, requests: int = 1) -> Billed:
        """Returns what requests are billed for these tokens."""
        return Billed(
            requests=requests,
            prompt_tokens=tokens.prompt,
            completion_tokens=tokens.completion,
            money=self.price(tokens),
        )

    @property
    def in_flight(self) -> int:
        """The number of requests in flight."""
        return len(self._reserved)

    @property
    def _earlier(self) -> Billed:
        return self.ledger.earlier(but=self._batches) if self.ledger is not None else _NOTHING

    @property
    def _own(self) -> Billed:
        used = Tokens(self.prompt_tokens, self.completion_tokens)
        return Billed(
            requests=self.requests - self.in_flight,
            lost=self.lost,
            prompt_tokens=used.prompt,
            completion_tokens=used.completion,
            money=self.price(used),
        )

    @property
    def _bound(self) -> Billed:
        return self._bound_in_flight + total(batch.open for batch in self._batches.values())

    @property
    def _bound_in_flight(self) -> Billed:
        most = Tokens(sum(part.prompt for part in self._reserved), sum(part.completion for part in self._reserved))
        return self.bill(most, self.in_flight).model_copy(update={"lost": self.in_flight})

    def record(self) -> Callable[[], None]:
        """Returns a call that writes the present figures, with the bounds of requests in flight, to the ledger."""
        return partial(self.ledger.write, self._own, self._bound_in_flight) if self.ledger is not None else lambda: None

    def open_batch(self, name: str, month: str, bound: Billed) -> None:
        """Counts a batch with its bound until it is settled.

        Args:
            name: identifies the batch.
            month: the month, in UTC, in which it was sent.
            bound: the most that it may be billed.
        """
        self._batches[name] = BatchBill(month, _NOTHING, bound)

    def settle_batch(self, name: str, used: Billed) -> None:
        """Counts a batch with what it was billed.

        Args:
            name: identifies the batch.
            used: what it was billed.
        """
        self._batches[name] = BatchBill(self._batches[name].month, used, _NOTHING)

    def record_batch(self, name: str) -> None:
        """Writes the present figures of a batch to the ledger.

        Args:
            name: identifies the batch.
        """
        if self.ledger is not None:
            batch = self._batches[name]
            self.ledger.write_batch(name, batch.month, batch.settled, batch.open)

    def fits(self, most: Tokens) -> bool:
        """Returns whether requests fit the budgets together with what is in flight."""
        if self.allowance is not None and not self.allowance.fits(self.bill(most)):
            return False
        return self.fits_own(most)

    def fits_own(self, most: Tokens) -> bool:
        """Returns whether requests fit the step's own budget together with what is in flight."""
        budget, used = self.budget, self.total + self._bound
        if budget.tokens == 0 or budget.money == 0:
            return False  # no request may be sent, even to an endpoint without a price
        return (budget.tokens is None or used.tokens + most.total <= budget.tokens) and (
            budget.money is None or used.money + self.price(most) <= budget.money
        )

    def reserve(self, most: Tokens) -> None:
        """Reserves the most that a request may use until it is settled."""
        self._reserved.append(most)
        self.requests += 1

    def settle(self, most: Tokens, used: Tokens) -> None:
        """Records what a request used and releases its reservation."""
        self._reserved.remove(most)
        self.prompt_tokens += used.prompt
        self.completion_tokens += used.completion

    def metrics(self) -> dict[str, float]:
        """Returns the usage of all attempts as metrics; retries and latencies (seconds) are those of this one."""
        used = self.total
        return {
            "llm_requests": float(used.requests),
            "llm_retries": float(self.retries),
            "llm_lost": float(used.lost),
            "llm_tokens_in": float(used.prompt_tokens),
            "llm_tokens_out": float(used.completion_tokens),
            "llm_cost": used.money,
            "llm_latency_p50": _quantile(self.seconds, 0.50),
            "llm_latency_p95": _quantile(self.seconds, 0.95),
        }


def _quantile(values: Sequence[float], share: float) -> float:
    """Returns the smallest value that a share of the values do not exceed; 0 without values."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 100) * len(ordered) // 100) - 1)] if ordered else 0.0

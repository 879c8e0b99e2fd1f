"""`Spending`: what requests to one model have used, and whether the next one fits the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kommuna.spec.llm import Budget, LlmEndpoint

_MILLION = 1_000_000


@dataclass(frozen=True)
class Tokens:
    """Tokens of one request, or the most that it may use."""

    read: int
    written: int

    @property
    def total(self) -> int:
        """Tokens in and out."""
        return self.read + self.written


@dataclass
class Spending:
    """The tally of one model in one run of a step.

    A request reserves the most that it may use before it is sent, so that requests in flight together never go past
    the budget. An answer that was lost on its way counts at that bound, since the server may bill it.
    """

    endpoint: LlmEndpoint
    budget: Budget
    requests: int = 0
    retries: int = 0
    lost: int = 0
    masked: int = 0
    read: int = 0
    written: int = 0
    seconds: list[float] = field(default_factory=list)
    _reserved: list[Tokens] = field(default_factory=list)

    def price(self, tokens: Tokens) -> float:
        """What tokens cost, in the currency of the endpoint's prices."""
        endpoint = self.endpoint
        return (tokens.read * endpoint.input_price + tokens.written * endpoint.output_price) / _MILLION

    @property
    def cost(self) -> float:
        """What has been spent."""
        return self.price(Tokens(self.read, self.written))

    @property
    def in_flight(self) -> int:
        """Requests that hold a reservation."""
        return len(self._reserved)

    def fits(self, most: Tokens) -> bool:
        """Whether a request may be sent now: with all that is in flight it stays within the budget."""
        held = [*self._reserved, most]
        tokens = self.read + self.written + sum(part.total for part in held)
        money = self.cost + sum(map(self.price, held))
        budget = self.budget
        if budget.tokens == 0 or budget.money == 0:
            return False  # zero is "ask nothing", also of an endpoint without a price
        return (budget.tokens is None or tokens <= budget.tokens) and (budget.money is None or money <= budget.money)

    def reserve(self, most: Tokens) -> None:
        """Holds what a request may use until it is settled."""
        self._reserved.append(most)
        self.requests += 1

    def settle(self, most: Tokens, used: Tokens) -> None:
        """Books what a request has used instead of what it held."""
        self._reserved.remove(most)
        self.read += used.read
        self.written += used.written

    def metrics(self) -> dict[str, float]:
        """The tally as metrics; latencies in seconds, of requests that were answered."""
        return {
            "llm_requests": float(self.requests),
            "llm_retries": float(self.retries),
            "llm_lost": float(self.lost),
            "llm_tokens_in": float(self.read),
            "llm_tokens_out": float(self.written),
            "llm_cost": self.cost,
            "llm_latency_p50": _quantile(self.seconds, 0.50),
            "llm_latency_p95": _quantile(self.seconds, 0.95),
        }


def _quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least a share of the values do not exceed; 0 where there are none."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 100) * len(ordered) // 100) - 1)] if ordered else 0.0

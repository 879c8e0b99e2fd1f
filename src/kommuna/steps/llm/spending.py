"""`Spending`: the tokens and money that requests to one model have used, checked against a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kommuna.spec.llm import Budget, LlmEndpoint

_MILLION = 1_000_000


@dataclass(frozen=True)
class Tokens:
    """The tokens of one request, or the most that it may use."""

    prompt: int
    completion: int

    @property
    def total(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt + self.completion


@dataclass
class Spending:
    """Tracks what requests to one model use during one run of a step.

    A request reserves the most that it may use before it is sent, so concurrent requests never exceed the budget
    together. An answer that was lost counts as that upper bound, because the server may bill it.
    """

    endpoint: LlmEndpoint
    budget: Budget
    requests: int = 0
    retries: int = 0
    lost: int = 0
    masked: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: list[float] = field(default_factory=list)
    _reserved: list[Tokens] = field(default_factory=list)

    def price(self, tokens: Tokens) -> float:
        """Returns the price of tokens in the currency of the endpoint's prices."""
        endpoint = self.endpoint
        return (tokens.prompt * endpoint.input_price + tokens.completion * endpoint.output_price) / _MILLION

    @property
    def cost(self) -> float:
        """The money spent, in the currency of the endpoint's prices."""
        return self.price(Tokens(self.prompt_tokens, self.completion_tokens))

    @property
    def in_flight(self) -> int:
        """The number of requests in flight."""
        return len(self._reserved)

    def fits(self, most: Tokens) -> bool:
        """Returns whether a request fits the budget together with the requests in flight."""
        held = [*self._reserved, most]
        tokens = self.prompt_tokens + self.completion_tokens + sum(part.total for part in held)
        money = self.cost + sum(map(self.price, held))
        budget = self.budget
        if budget.tokens == 0 or budget.money == 0:
            return False  # no request may be sent, even to an endpoint without a price
        return (budget.tokens is None or tokens <= budget.tokens) and (budget.money is None or money <= budget.money)

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
        """Returns the usage as metrics; latencies are in seconds and of answered requests."""
        return {
            "llm_requests": float(self.requests),
            "llm_retries": float(self.retries),
            "llm_lost": float(self.lost),
            "llm_tokens_in": float(self.prompt_tokens),
            "llm_tokens_out": float(self.completion_tokens),
            "llm_cost": self.cost,
            "llm_latency_p50": _quantile(self.seconds, 0.50),
            "llm_latency_p95": _quantile(self.seconds, 0.95),
        }


def _quantile(values: Sequence[float], share: float) -> float:
    """Returns the smallest value that a share of the values do not exceed; 0 without values."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 100) * len(ordered) // 100) - 1)] if ordered else 0.0

"""LLM endpoints as kommuna.yaml describes them, and the budget of a step."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from kommuna.spec.base import Spec


class LlmEndpoint(Spec):
    """One model behind an OpenAI-compatible API."""

    url: str = Field(pattern=r"^https?://", description="Base URL of the API: https://llm.bank.example/v1.")
    model: str = Field(min_length=1, description="The model's name, as the API knows it.")
    key_variable: str = Field(
        "",
        pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$",
        description="Name of the environment variable that holds the API key; empty if the API needs no key.",
    )
    input_price: float = Field(0.0, ge=0, description="Price of 1,000,000 tokens in.")
    output_price: float = Field(0.0, ge=0, description="Price of 1,000,000 tokens out, in the same currency.")
    concurrency: int = Field(8, gt=0, le=256, description="Requests of one step at one time.")
    timeout_seconds: float = Field(60.0, gt=0, description="The longest that one request may take.")

    @field_validator("url")
    @classmethod
    def _holds_no_secret(cls, url: str) -> str:
        parts = urlsplit(url)
        if "@" in parts.netloc or parts.query:
            raise ValueError("a URL must not contain a key: name its environment variable by key_variable")
        return url.rstrip("/")


class Llms(Spec):
    """The platform's models: a light one that answers many short questions, a heavy one that writes rules."""

    light: LlmEndpoint | None = Field(None, description="Answers the questions of `ask` rules.")
    heavy: LlmEndpoint | None = Field(None, description="Proposes rules.")


class Budget(Spec):
    """The most that one run of a step may use of an LLM; None is no limit, 0 is nothing."""

    tokens: int | None = Field(None, ge=0, description="Tokens in and out.")
    money: float | None = Field(None, ge=0, description="In the currency of the endpoint's prices.")


class Asking(Spec):
    """How `ask` rules are asked."""

    model: str = Field(
        "", description="Another model behind the light endpoint; operators fill in the platform's, so that it counts."
    )
    budget: Budget = Field(
        default_factory=Budget, description="When it is spent, no more is asked; answers so far are kept."
    )
    max_failed: float = Field(
        0.05,
        ge=0,
        le=1,
        description="The share of questions without a usable answer, 0 to 1, past which the step fails.",
    )
    messages_per_request: int = Field(8, gt=0, le=64, description="Messages that share one request.")
    names: tuple[str, ...] = Field((), description="People's names to mask, as mask_pii takes them.")
    region: str = Field("RU", description="Where phone numbers without a country code are from.")

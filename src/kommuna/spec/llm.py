"""LLM endpoints as kommuna.yaml describes them, and the budget of a step."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from kommuna.spec.base import Spec
from kommuna.spec.names import TeamName
from kommuna.spec.network import Door

SPENDING = "spending"  # the folder of what LLMs were billed, below the folder that a team's runs share


def done_name(work: str) -> str:
    """Returns the name of the file that separates finished attempts at a step's work from later ones.

    Args:
        work: identifies the work: the digest of the step's question.
    """
    return f"{work}.done"


class SecretKey(Spec):
    """One entry of a Secret of Kubernetes."""

    name: str = Field(min_length=1, description="The Secret's name, beside the control plane.")
    key: str = Field(min_length=1, description="The entry's key.")


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
    teams: tuple[TeamName, ...] | None = Field(
        None, description="The teams that may use it; all of them if absent. On Kubernetes it must be given."
    )
    proxy: str = Field(
        "", pattern=r"^(https?://[^@]+)?$", description="URL of the HTTP proxy on the way to it; none if empty."
    )
    ca: str = Field(
        "",
        description="Certificates, as PEM, of the authority that signed the endpoint's; the system's authorities if "
        "empty.",
    )
    secret: SecretKey | None = Field(
        None,
        description="On Kubernetes, the entry of an existing Secret with the API key, which workers of the named teams "
        "get as `key_variable`.",
    )
    door: Door | None = Field(
        None,
        description="On Kubernetes, the way of the named teams' workers to it, or to its proxy: "
        "{to: [{ipBlock: {cidr: …}}], ports: [{port: 443, protocol: TCP}]}.",
    )

    @field_validator("url")
    @classmethod
    def _holds_no_secret(cls, url: str) -> str:
        parts = urlsplit(url)
        if "@" in parts.netloc or parts.query:
            raise ValueError("a URL must not contain a key: name its environment variable by key_variable")
        return url.rstrip("/")

    @field_validator("ca")
    @classmethod
    def _is_certificates(cls, ca: str) -> str:
        if ca and ("BEGIN CERTIFICATE" not in ca or "PRIVATE KEY" in ca):
            raise ValueError("write the authority's certificate as PEM (-----BEGIN CERTIFICATE-----), without its key")
        return ca

    @model_validator(mode="after")
    def _secret_has_a_variable(self) -> LlmEndpoint:
        if self.secret and not self.key_variable:
            raise ValueError("secret: name the environment variable that it fills: key_variable")
        return self

    def is_for(self, team: str) -> bool:
        """Whether a team may use it."""
        return self.teams is None or team in self.teams


class Llms(Spec):
    """The platform's models: a light one that answers many short questions, a heavy one that writes rules."""

    light: LlmEndpoint | None = Field(None, description="Answers the questions of `ask` rules.")
    heavy: LlmEndpoint | None = Field(None, description="Proposes rules.")

    @property
    def endpoints(self) -> dict[str, LlmEndpoint]:
        """The endpoints that there are, by name."""
        return {name: found for name in ("light", "heavy") if (found := getattr(self, name)) is not None}

    def of(self, team: str) -> Llms:
        """Returns the endpoints that a team may use."""
        return Llms(**{name: endpoint for name, endpoint in self.endpoints.items() if endpoint.is_for(team)})

    @property
    def secrets(self) -> dict[str, SecretKey]:
        """The Secrets with API keys, by the environment variable of each."""
        return {endpoint.key_variable: endpoint.secret for endpoint in self.endpoints.values() if endpoint.secret}

    @model_validator(mode="after")
    def _variables_differ(self) -> Llms:
        light, heavy = self.light, self.heavy
        if light is None or heavy is None or not light.secret or not heavy.secret or light.secret == heavy.secret:
            return self
        if light.key_variable == heavy.key_variable:
            raise ValueError(f"heavy.key_variable: '{heavy.key_variable}' holds the light endpoint's key")
        return self


class Budget(Spec):
    """The most that may be used of LLMs; None is no limit, 0 is nothing."""

    tokens: int | None = Field(None, ge=0, description="Tokens in and out.")
    money: float | None = Field(None, ge=0, description="In the currency of the endpoint's prices.")


class LlmBudgets(Spec):
    """The most that a team may use of LLMs, over both endpoints."""

    month: Budget = Field(default_factory=Budget, description="In a calendar month, UTC.")
    run: Budget = Field(default_factory=Budget, description="In one DAG run.")


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
    batch_from: int | None = Field(
        None,
        gt=0,
        description="From so many answers on, the questions are sent as a batch if the endpoint has batches; it may "
        "take a day.",
    )
    names: tuple[str, ...] = Field((), description="People's names to mask, as mask_pii takes them.")
    region: str = Field("RU", description="Where phone numbers without a country code are from.")

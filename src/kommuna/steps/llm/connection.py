"""The HTTP client of an LLM's endpoint: by its proxy, and by the authority that it trusts."""

from __future__ import annotations

import ssl
from typing import Any

from kommuna.errors import LlmSettings
from kommuna.spec.llm import LlmEndpoint
from kommuna.steps.llm.bounded import bounded_client


def http_client(endpoint: LlmEndpoint) -> Any:
    """Returns an `httpx.AsyncClient` for the `openai` client.

    Args:
        endpoint: its `proxy` replaces the one that the environment names, and its `ca` the system's authorities.

    Raises:
        LlmSettings: `ca` cannot be read.
    """
    options: dict[str, Any] = {"proxy": endpoint.proxy} if endpoint.proxy else {}
    if endpoint.ca:
        try:
            options["verify"] = ssl.create_default_context(cadata=endpoint.ca)
        except ssl.SSLError as error:
            raise LlmSettings(
                f"the certificates of the LLM's authority cannot be read: {error.reason or error}",
                where=f"`ca` of the endpoint {endpoint.url}",
                fix="write them as PEM, whole, in kommuna.yaml",
            ) from None
    return bounded_client(**options)

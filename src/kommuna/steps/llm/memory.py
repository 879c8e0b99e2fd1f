"""`DialectMemory`: the request parameters that an endpoint accepts, kept for later runs of the team."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from kommuna.spec.llm import LlmEndpoint
from kommuna.spec.step import StoreAddress
from kommuna.steps.llm.dialect import Dialect
from kommuna.steps.shared_folder import SealedFolder

_KEPT = timedelta(days=30)  # then the usual parameters are tried again: servers learn


class DialectMemory:
    """Keeps what one endpoint accepts besides the usual parameters.

    Args:
        address: the folder that the team's runs share; None: nothing is kept.
        endpoint: the endpoint.
    """

    def __init__(self, address: StoreAddress | None, endpoint: LlmEndpoint) -> None:
        self._folder = SealedFolder(address, "dialects", what="dialects of LLMs") if address is not None else None
        self._name = hashlib.sha256(f"{endpoint.url}\0{endpoint.model}".encode()).hexdigest()[:32] + ".json"

    def load(self) -> Dialect:
        """Returns the dialect that an earlier run found, or the usual one.

        Raises:
            StoreError: the store cannot be read.
        """
        raw = self._folder.read([self._name]).get(self._name) if self._folder is not None else None
        if raw is None:
            return Dialect()
        kept = json.loads(raw)
        if datetime.now(UTC) - datetime.fromisoformat(kept.pop("found")) > _KEPT:
            return Dialect()
        return Dialect(**kept)

    def save(self, dialect: Dialect) -> None:
        """Keeps a dialect in which a request was answered.

        Raises:
            StoreError: the store cannot be written.
        """
        if self._folder is not None:
            kept = asdict(dialect) | {"found": datetime.now(UTC).isoformat()}
            self._folder.write(self._name, json.dumps(kept).encode())

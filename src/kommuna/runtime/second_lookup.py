"""A second cache look-up, by parameters that the step's process has coerced: only it can import the team's types.

The process requests it before it calls the step. The supervisor ends the process if it finds an earlier result.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from kommuna.store.manifest import Manifest
from kommuna.store.parameters import bound_params

FindAnswer = Callable[[dict[str, Any]], Manifest | None]


class SecondLookup:
    """The second look-up of one run. Its processes communicate by two pipes.

    Args:
        first_params: the parameters of the first look-up.
        answer: finds an earlier result by coerced parameters.
    """

    def __init__(self, first_params: Mapping[str, Any], answer: FindAnswer) -> None:
        self._first_params = json.dumps(first_params)
        self._answer = answer
        self.params: dict[str, Any] | None = None
        self.manifest: Manifest | None = None
        self._questions = self._replies = (-1, -1)

    def open(self) -> None:
        """Opens the pipes, before the step's process is forked."""
        self._questions, self._replies = os.pipe(), os.pipe()

    def ask(self, params: Mapping[str, Any]) -> None:
        """Called in the step's process: requests the look-up, and returns only if the step has to be called."""
        bound = bound_params(params)
        if bound is not None and json.dumps(bound) != self._first_params:
            with os.fdopen(os.dup(self._questions[1]), "w", encoding="utf-8") as file:
                file.write(json.dumps(bound) + "\n")
            os.read(self._replies[0], 1)
        self._close(*self._questions, *self._replies)

    def begin(self) -> int:
        """Called in the supervisor, after the fork: returns the file descriptor to read a request from."""
        self._close(self._questions[1], self._replies[0])
        return self._questions[0]

    def receive(self) -> bool:
        """Reads a request and answers it; returns True if an earlier result was found and the step is not needed."""
        with os.fdopen(os.dup(self._questions[0]), encoding="utf-8") as file:
            line = file.readline()
        if line.endswith("\n"):
            self.params = json.loads(line)
            self.manifest = self._answer(dict(self.params or {}))
            if self.manifest is None:
                os.write(self._replies[1], b".")
        return self.manifest is not None

    def close(self) -> None:
        """Called in the supervisor: closes its ends of the pipes."""
        self._close(self._questions[0], self._replies[1])

    def _close(self, *descriptors: int) -> None:
        for descriptor in descriptors:
            os.close(descriptor)

"""A second look-up, with a step's parameters as its own process has bound them: it alone knows the team's types.

The process asks before it calls the step, and ends there where an earlier run left what the step would leave.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from kommuna.store.manifest import Manifest
from kommuna.store.parameters import bound_params

Answer = Callable[[dict[str, Any]], Manifest | None]


class Bound:
    """The parameters of one run, by two pipes between its processes.

    Args:
        asked: as the first look-up had them.
        answer: looks up what an earlier run left, by parameters as they are bound.
    """

    def __init__(self, asked: Mapping[str, Any], answer: Answer) -> None:
        self._asked = json.dumps(asked)
        self._answer = answer
        self.params: dict[str, Any] | None = None
        self.manifest: Manifest | None = None
        self._questions = self._replies = (-1, -1)

    def open(self) -> None:
        """Begins, before the step's process is forked."""
        self._questions, self._replies = os.pipe(), os.pipe()

    def ask(self, params: Mapping[str, Any]) -> None:
        """In the step's process: returns where the step has to be called."""
        bound = bound_params(params)
        if bound is not None and json.dumps(bound) != self._asked:
            with os.fdopen(os.dup(self._questions[1]), "w", encoding="utf-8") as file:
                file.write(json.dumps(bound) + "\n")
            os.read(self._replies[0], 1)
        self._close(*self._questions, *self._replies)

    def begin(self) -> int:
        """In the supervisor, after the fork: the file descriptor that a question comes by."""
        self._close(self._questions[1], self._replies[0])
        return self._questions[0]

    def hear(self) -> bool:
        """Reads what has come; whether an earlier run left what is wanted, so that the step need not be called."""
        with os.fdopen(os.dup(self._questions[0]), encoding="utf-8") as file:
            line = file.readline()
        if line.endswith("\n"):
            self.params = json.loads(line)
            self.manifest = self._answer(dict(self.params or {}))
            if self.manifest is None:
                os.write(self._replies[1], b".")
        return self.manifest is not None

    def close(self) -> None:
        """Ends, in the supervisor."""
        self._close(self._questions[0], self._replies[1])

    def _close(self, *descriptors: int) -> None:
        for descriptor in descriptors:
            os.close(descriptor)

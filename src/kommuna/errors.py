"""The tree of errors, with the exit code of each branch.

KommunaError
├── TeamMistake            exit 2: the team must fix it, a retry does not help
│   ├── SpecError          a YAML file or parameter that does not match its model
│   ├── NotInstalled       a library of an extra of Kommuna is not installed
│   ├── StepNotFound       no such step, input or parameter
│   ├── DataError          the rows are not what was declared
│   │   ├── MissingColumn
│   │   ├── SchemaDrift
│   │   ├── DuplicateKeys
│   │   └── Leakage        gold rows found in training data
│   ├── RulesError         a rules file, a rule in it, or a vote
│   ├── GateError          a promotion gate that cannot be parsed
│   ├── PromotionRefused   a version that the gate, or a person's pin, keeps from becoming the champion
│   ├── LlmSettings        an LLM endpoint that is not set, or whose key or model is refused
│   ├── NoUsableAnswers    too many answers of an LLM are refusals or invalid
│   ├── BudgetSpent        the next request to an LLM would exceed the step's budget
│   └── TeamBudgetSpent    what a step needs of an LLM would exceed the team's budget
├── LimitExceeded          exit 3: memory or time
└── PlatformFault          exit 1: a fault of the platform, worth a retry
    ├── StoreError         the artifact store is full or read-only
    │   └── IntegrityError an artifact's bytes do not match its digest
    ├── RegistryError      MLflow refuses a request
    ├── LlmAnswerError     one answer of an LLM that cannot be used
    └── Outage             a service does not answer: the platform waits it out before Airflow retries
        ├── StoreUnreachable     (a StoreError too)
        ├── RegistryUnreachable  (a RegistryError too)
        └── LlmUnreachable
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any, ClassVar, Self, TypeVar

EXIT_DONE = 0
EXIT_FAULT = 1
EXIT_MISTAKE = 2
EXIT_LIMIT = 3


class KommunaError(Exception):
    """Base class of Kommuna's errors: what went wrong, where, and how to fix it.

    Args:
        what: one line, with the relevant names and values.
        where: team, DAG, step, file, row or column, as far as known.
        fix: what to change.
    """

    exit_code = EXIT_FAULT
    details: ClassVar[tuple[str, ...]] = ()  # names of further texts that the constructor takes and keeps

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)

    @classmethod
    def parse(cls, text: str) -> Self:
        r"""Parses an error from its text, where a library kept only the text.

        >>> RulesError.parse("no tag\n  where: rule a\n  fix: give one").fix
        'give one'
        """
        what, where, fix = re.fullmatch(  # type: ignore[union-attr]
            r"(.*?)(?:\n  where: (.*?))?(?:\n  fix: (.*))?", text, re.DOTALL
        ).groups(default="")
        return cls(what, where=where, fix=fix, **dict.fromkeys(cls.details, ""))


class TeamMistake(KommunaError):
    """A mistake of the team: a retry would fail in the same way."""

    exit_code = EXIT_MISTAKE


class SpecError(TeamMistake):
    """A YAML file or a parameter does not match its model."""


class NotInstalled(TeamMistake):
    """A library that only an extra of Kommuna installs is missing."""


class StepNotFound(TeamMistake):
    """There is no step, input or parameter of that name."""


class DataError(TeamMistake):
    """The rows are not what was declared."""


class MissingColumn(DataError):
    """A table lacks a column that the step needs."""


class SchemaDrift(DataError):
    """A column's values are not of the declared type."""


class DuplicateKeys(DataError):
    """A row key occurs more than once."""


class Leakage(DataError):
    """Gold rows were found in the data that a model learns from."""


class RulesError(TeamMistake):
    """A rules file, a rule in it, or a vote is invalid."""


class GateError(TeamMistake):
    """A promotion gate cannot be parsed."""


class PromotionRefused(TeamMistake):
    """A version does not become the champion: by the gate, a person's pin, or scores of another champion."""


class LlmSettings(TeamMistake):
    """An LLM endpoint is not set, or its key or model is refused."""


class NoUsableAnswers(TeamMistake):
    """Too many answers of an LLM are refusals, invalid, or contradictory."""


class BudgetSpent(TeamMistake):
    """The next request to an LLM would exceed the budget of tokens or money."""


class TeamBudgetSpent(TeamMistake):
    """What a step needs of an LLM would exceed the team's budget of the month or of the DAG run."""


class LimitExceeded(KommunaError):
    """The step needed more memory or time than its resources allow."""

    exit_code = EXIT_LIMIT


class PlatformFault(KommunaError):
    """A fault of the platform; worth a retry."""


class Outage(PlatformFault):
    """A service does not answer, or only with server errors. The platform waits it out."""


class StoreError(PlatformFault):
    """The artifact store is full or read-only."""


class StoreUnreachable(StoreError, Outage):
    """The artifact store, or a file's server, does not answer."""


class IntegrityError(StoreError):
    """An artifact's bytes do not match its digest."""


class RegistryError(PlatformFault):
    """The model registry refuses a request."""


class RegistryUnreachable(RegistryError, Outage):
    """The model registry does not answer."""


class LlmUnreachable(Outage):
    """An LLM endpoint does not answer, or only with errors, after all retries."""


class LlmAnswerError(PlatformFault):
    """An answer of an LLM is unusable: refused, malformed, cut, contradictory, or the prompt was too long.

    Args:
        reason: `refused`, `malformed`, `cut`, `contradictory` or `too_long`.
        usable: the complete members of an answer that was cut.
    """

    details = ("reason",)

    def __init__(
        self, what: str, *, reason: str, where: str = "", fix: str = "", usable: dict[str, Any] | None = None
    ) -> None:
        super().__init__(what, where=where, fix=fix)
        self.reason = reason
        self.usable = usable or {}


E = TypeVar("E", bound=KommunaError)


def as_raised(error: E) -> E:
    """Restores an error that was raised inside Polars, which turns it into one text and appends its plan."""
    text, added, _ = error.what.partition("\n\nThis error occurred")
    return type(error).parse(text) if added else error


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns a hint with the most similar known name: ``" (did you mean 'x'?)"``, or nothing.

    >>> nearest("lables", ["labels", "votes"])
    " (did you mean 'labels'?)"
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""

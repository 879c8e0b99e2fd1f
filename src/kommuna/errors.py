"""The one tree of errors, and the exit code that each branch stands for.

KommunaError
├── TeamMistake            exit 2: the team fixes it, a retry does not
│   ├── SpecError          a YAML file or parameter that does not fit its model
│   ├── NotInstalled       a library that an extra of Kommuna brings
│   ├── StepNotFound       no such step, input or parameter
│   ├── DataError          the rows are not what was declared
│   │   ├── MissingColumn
│   │   ├── SchemaDrift
│   │   ├── DuplicateKeys
│   │   └── Leakage        gold rows met in training data
│   ├── RulesError         a rules file, a rule in it, or a vote
│   ├── GateError          a promotion gate that cannot be read
│   ├── LlmSettings        an LLM endpoint that is not set, or whose key or model is refused
│   ├── NoUsableAnswers    too many of an LLM's answers are refusals or broken
│   └── BudgetSpent        the next request to an LLM would go past the budget
├── LimitExceeded          exit 3: memory or time
└── PlatformFault          exit 1: the platform's trouble, worth a retry
    ├── StoreError         the artifact store is full or read-only
    │   └── IntegrityError an artifact's bytes are not what its name says
    ├── RegistryError      MLflow refuses
    ├── LlmAnswerError     one answer of an LLM that cannot be used
    └── Outage             a service does not answer: waited out by the platform before anything is retried
        ├── StoreUnreachable     (a StoreError too)
        ├── RegistryUnreachable  (a RegistryError too)
        └── LlmUnreachable
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import ClassVar, Self, TypeVar

EXIT_DONE = 0
EXIT_FAULT = 1
EXIT_MISTAKE = 2
EXIT_LIMIT = 3


class KommunaError(Exception):
    """What went wrong, where, and how to fix it; the first line is the one that people see.

    Args:
        what: one line, with the names and values that matter.
        where: team, DAG, step, file, row or column, as far as it is known.
        fix: what to change.
    """

    exit_code = EXIT_FAULT
    details: ClassVar[tuple[str, ...]] = ()  # further texts that the constructor takes and keeps, by name

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
        """Reads an error back from its text, where a library left no more of it than that.

        >>> RulesError.parse("no tag\\n  where: rule a\\n  fix: give one").fix
        'give one'
        """
        what, where, fix = re.fullmatch(  # type: ignore[union-attr]
            r"(.*?)(?:\n  where: (.*?))?(?:\n  fix: (.*))?", text, re.DOTALL
        ).groups(default="")
        return cls(what, where=where, fix=fix, **dict.fromkeys(cls.details, ""))


class TeamMistake(KommunaError):
    """The team's mistake: a retry would fail in the same way."""

    exit_code = EXIT_MISTAKE


class SpecError(TeamMistake):
    """A YAML file or a parameter does not fit its model."""


class NotInstalled(TeamMistake):
    """A library that only an extra of Kommuna brings is not installed."""


class StepNotFound(TeamMistake):
    """No step, input or parameter of that name."""


class DataError(TeamMistake):
    """The rows are not what was declared."""


class MissingColumn(DataError):
    """A table lacks a column that the step needs."""


class SchemaDrift(DataError):
    """A column's values are not of the declared type."""


class DuplicateKeys(DataError):
    """The row key names more than one row."""


class Leakage(DataError):
    """Gold rows were met in the data that a model learns from."""


class RulesError(TeamMistake):
    """A rules file, a rule in it, or a vote is not usable."""


class GateError(TeamMistake):
    """A promotion gate that cannot be read."""


class LlmSettings(TeamMistake):
    """An LLM endpoint is not set, or its key or model is refused."""


class NoUsableAnswers(TeamMistake):
    """Too many of an LLM's answers are refusals, broken, or contradict each other."""


class BudgetSpent(TeamMistake):
    """The next request to an LLM would go past the budget of tokens or money."""


class LimitExceeded(KommunaError):
    """The step needed more memory or time than its resources allow."""

    exit_code = EXIT_LIMIT


class PlatformFault(KommunaError):
    """The platform's trouble; worth a retry."""


class Outage(PlatformFault):
    """A service does not answer, or only with errors that are its own; nobody's mistake, and waited out."""


class StoreError(PlatformFault):
    """The artifact store is full or read-only."""


class StoreUnreachable(StoreError, Outage):
    """The artifact store, or a file's server, does not answer."""


class IntegrityError(StoreError):
    """An artifact's bytes are not what its name says."""


class RegistryError(PlatformFault):
    """The model registry refuses."""


class RegistryUnreachable(RegistryError, Outage):
    """The model registry does not answer."""


class LlmUnreachable(Outage):
    """An LLM endpoint does not answer, or only with errors, after all tries."""


class LlmAnswerError(PlatformFault):
    """One answer of an LLM that cannot be used: refused, malformed, cut, contradictory, or to a too long prompt.

    Args:
        reason: `refused`, `malformed`, `cut`, `contradictory` or `too_long`.
    """

    details = ("reason",)

    def __init__(self, what: str, *, reason: str, where: str = "", fix: str = "") -> None:
        super().__init__(what, where=where, fix=fix)
        self.reason = reason


E = TypeVar("E", bound=KommunaError)


def as_raised(error: E) -> E:
    """An error as a function raised it inside Polars, which makes one text of its fields and adds its own plan."""
    text, added, _ = error.what.partition("\n\nThis error occurred")
    return type(error).parse(text) if added else error


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names what was probably meant: ``" (did you mean 'x'?)"``, or nothing.

    >>> nearest("lables", ["labels", "votes"])
    " (did you mean 'labels'?)"
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""

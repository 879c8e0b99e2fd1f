"""The rounds of the loop as data. Each round is stored when it is done, so that a killed run can be resumed."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import structlog
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from kommuna.spec.base import Spec
from kommuna.spec.rules import AnyRule
from kommuna.spec.step import Services, StoreAddress
from kommuna.steps.shared_folder import SealedFolder

log = structlog.get_logger()


class WrittenRule(Spec):
    """A rule that the loop wrote, with its figures."""

    rule: AnyRule
    origin: str = Field(description="The proposer and its reason.")
    round: int
    right: int = Field(description="Right votes on dev, cross-fitted.")
    cast: int = Field(description="Votes on dev, cross-fitted.")
    low: float = Field(description="Lower end of the 95 % interval of its precision.")
    gain: float = Field(description="The gain in macro F1 on dev when it was selected.")
    slot: str = Field(description="The purpose of the rule; see `Proposal`.")
    fired: str = Field(description="One bit per dev row, in hexadecimal: 1 where it votes, cross-fitted.")

    def fired_rows(self, rows: int) -> NDArray[np.bool_]:
        """Returns d, whether the rule votes on the dev row.

        Args:
            rows: d.
        """
        return rows_of(self.fired, rows)


def bits(rows: NDArray[np.bool_]) -> str:
    """Encodes rows, one bit each, in hexadecimal."""
    return np.packbits(rows).tobytes().hex()


def rows_of(encoded: str, rows: int) -> NDArray[np.bool_]:
    """Decodes rows.

    Args:
        encoded: see `bits`; empty: no row.
        rows: the number of rows.
    """
    whole = bytes.fromhex(encoded).ljust(-(-rows // 8), b"\0")
    return np.unpackbits(np.frombuffer(whole, dtype=np.uint8), count=rows).astype(np.bool_)


class RuleChanges(Spec):
    """The changes of one round."""

    written: tuple[WrittenRule, ...] = ()
    out: tuple[str, ...] = Field((), description="Rules of earlier rounds that newer rules made redundant.")


class Round(RuleChanges):
    """One round. Round 0 is the start of the loop."""

    number: int
    proposed: int = 0
    without: tuple[RuleChanges, ...] = Field((), description="The changes of the runs without each fold of dev.")
    refused: dict[str, int] = Field(default_factory=dict, description="Numbers of refused proposals by reason.")
    shown: str = Field(
        "", description="One bit per dev row, in hexadecimal: 1 where a prompt has shown the row so far."
    )
    ended: tuple[str, ...] = Field((), description="Proposers that will not propose more rules, and why.")
    rules: int = Field(description="Rules at the end of the round.")
    f1: float = Field(description="Macro F1 on dev at the end of the round, cross-fitted.")
    coverage: float = Field(description="Share of unlabeled messages with a vote.")
    cost: dict[str, float] = Field(default_factory=dict, description="Usage of the proposers in this round.")
    seconds: float = 0.0


class LlmAnswer(Spec):
    """The answer of a proposer's LLM to one request."""

    answer: dict[str, Any] | None = Field(None, description="The answer; None if it was unusable.")
    unusable: str = Field("", description="Why the answer was unusable.")


class Rounds:
    """Stores the rounds of runs in the folder that the team's runs share.

    Each round is one file, written atomically. So is each answer of a proposer's LLM: a killed run repeats its
    unfinished round without asking again.

    Args:
        shared: the shared folder; None: nothing is stored.
        run: identifies the run.
    """

    def __init__(self, shared: StoreAddress | None = None, run: str = "") -> None:
        self._shared = shared
        self._folder = SealedFolder(shared, f"refine/{run}", what="rounds") if shared is not None and run else None

    @classmethod
    def from_services(cls, services: Services) -> Self:
        """Returns the rounds in the team's shared folder."""
        return cls(services.shared)

    def settings_used(self) -> list[str]:
        """Returns no settings: a resumed run has the same result as one that was not killed."""
        return []

    def of(self, run: str) -> Rounds:
        """Returns the rounds of one run.

        Args:
            run: identifies the inputs, parameters and code.
        """
        return Rounds(self._shared, run)

    def load(self) -> list[Round]:
        """Returns the stored rounds in order, up to the first that is missing or damaged; removes those after it."""
        rounds: list[Round] = []
        while self._folder is not None:
            name = _file_name(len(rounds))
            raw = self._folder.read([name]).get(name)
            if raw is None:
                if self._folder.damaged:
                    self._folder.remove([later for later in self._folder.names(ending=".json") if later > name])
                break
            try:
                rounds.append(Round.model_validate_json(raw))
            except ValidationError:
                log.warning("refine.damaged_round", round=len(rounds), hint="the round is repeated")
                break
        return rounds

    def save(self, made: Round) -> None:
        """Stores a round; it is durable when the call returns."""
        if self._folder is not None:
            self._folder.write(_file_name(made.number), made.model_dump_json().encode())

    def answer(self, request: str) -> LlmAnswer | None:
        """Returns the stored answer to a request; None if there is none, or it is damaged.

        Args:
            request: identifies the request and the model.
        """
        if self._folder is None:
            return None
        raw = self._folder.read([name := f"answer-{request}.json"]).get(name)
        try:
            return LlmAnswer.model_validate_json(raw) if raw is not None else None
        except ValidationError:
            log.warning("refine.damaged_answer", file=name, hint="it is asked for again")
            return None

    def save_answer(self, request: str, answer: LlmAnswer) -> None:
        """Stores the answer to a request; it is durable when the call returns."""
        if self._folder is not None:
            self._folder.write(f"answer-{request}.json", answer.model_dump_json().encode())


def _file_name(number: int) -> str:
    return f"round-{number:03d}.json"

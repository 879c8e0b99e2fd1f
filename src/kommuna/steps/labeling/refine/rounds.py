"""The loop's rounds as data, kept one by one so that a killed run goes on where it was."""

from __future__ import annotations

from typing import Self

import numpy as np
import structlog
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from kommuna.spec.base import Spec
from kommuna.spec.rules import AnyRule
from kommuna.spec.step import Services, StoreAddress
from kommuna.steps.shared_folder import SharedFolder

log = structlog.get_logger()


class Written(Spec):
    """A rule that the loop wrote, with what is known of it."""

    rule: AnyRule
    origin: str = Field(description="Who wrote it and why.")
    round: int
    right: int = Field(description="Right votes on dev, each cast without the row.")
    cast: int = Field(description="Votes on dev, each cast without the row.")
    low: float = Field(description="Lower end of the 95 % interval of its precision.")
    gain: float = Field(description="What it added to macro F1 on dev when it was picked.")
    slot: str = Field(description="What the rule is for; rules of one round and slot stand for each other.")
    fired: str = Field(description="One bit a dev row, in hexadecimal: 1 where it votes, as told without the row.")

    def fired_rows(self, rows: int) -> NDArray[np.bool_]:
        """d, the dev rows on which the rule votes."""
        return np.unpackbits(np.frombuffer(bytes.fromhex(self.fired), dtype=np.uint8), count=rows).astype(np.bool_)


def bits(rows: NDArray[np.bool_]) -> str:
    """Rows as `Written.fired` holds them."""
    return np.packbits(rows).tobytes().hex()


class Changed(Spec):
    """What one round changed."""

    written: tuple[Written, ...] = ()
    out: tuple[str, ...] = Field((), description="Rules of earlier rounds that newer ones made needless.")


class Round(Changed):
    """What one round did. Round 0 is where the loop started."""

    number: int
    proposed: int = 0
    without: tuple[Changed, ...] = Field((), description="What the round changed where each fold of dev was not there.")
    refused: dict[str, int] = Field(default_factory=dict, description="Proposals that did not get in, by reason.")
    ended: tuple[str, ...] = Field((), description="Proposers that will answer no more, and why.")
    rules: int = Field(description="Rules at the end of the round.")
    f1: float = Field(
        description="Macro F1 on dev at the end of the round, each fold told by what was done without it."
    )
    coverage: float = Field(description="Share of unlabeled messages with a vote.")
    cost: dict[str, float] = Field(default_factory=dict, description="What the round's proposers used.")
    seconds: float = 0.0


class Rounds:
    """The rounds of runs, in the folder that the team's runs share; without one, nothing is kept.

    Each round is a file of its own, written whole: a run that is killed loses the round that it was in.
    """

    def __init__(self, shared: StoreAddress | None = None, run: str = "") -> None:
        self._shared = shared
        self._folder = SharedFolder(shared, f"refine/{run}", what="rounds") if shared is not None and run else None

    @classmethod
    def from_services(cls, services: Services) -> Self:
        """The rounds below the team's shared folder."""
        return cls(services.shared)

    def settings_used(self) -> list[str]:
        """None: a run that goes on ends as one that was never killed."""
        return []

    def of(self, run: str) -> Rounds:
        """Those of one run: the same inputs, parameters and code."""
        return Rounds(self._shared, run)

    def load(self) -> list[Round]:
        """The rounds so far, in order, up to the first that is missing or damaged."""
        rounds: list[Round] = []
        while self._folder is not None:
            name = _file_name(len(rounds))
            raw = self._folder.read([name]).get(name)
            if raw is None:
                break
            try:
                rounds.append(Round.model_validate_json(raw))
            except ValidationError:
                log.warning("refine.damaged_round", round=len(rounds), hint="it is done again")
                break
        return rounds

    def keep(self, made: Round) -> None:
        """Keeps a round; when it returns the round is safe."""
        if self._folder is not None:
            self._folder.write(_file_name(made.number), made.model_dump_json().encode())


def _file_name(number: int) -> str:
    return f"round-{number:03d}.json"

"""What a proposer is asked, and what it answers."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from kommuna.spec.rules import Rule
from kommuna.steps.labeling.refine.data import RefineData


@dataclass(frozen=True)
class Proposal:
    """A rule that somebody thinks would help.

    Attributes:
        rule: the rule.
        dev: d, on which of all dev rows it votes, each as told without the row: on a row that the proposer was asked
            about the rule votes that is written in the same slot without the row's fold, or none where the row was
            shown to whoever wrote the rule; on all others it votes like on any message.
        sample: s, on which messages of the sample it votes.
        origin: who wrote it and why, in a few words.
        slot: what the rule is for, among the rules of its round; the rules that are written there without a fold of dev
            stand for it on that fold.
        kind: rules of a kind are alike before a vote is looked at: their precisions are taken as drawn from one
            distribution.
        rewritten: whether its votes on dev are those of what is written in its slot without each row, not its own.
    """

    rule: Rule
    dev: NDArray[np.bool_]
    sample: NDArray[np.bool_]
    origin: str
    slot: str
    kind: str
    rewritten: bool = False


@dataclass(frozen=True)
class Standing:
    """Where the loop stands when it asks for proposals.

    Attributes:
        data: the rows.
        rules: the present rules.
        assigned: d x k, the tags that a label model which did not see the row's label gives it; to a row without a vote
            the default tag, or none.
        round: from 1.
    """

    data: RefineData
    rules: tuple[Rule, ...]
    assigned: NDArray[np.bool_]
    round: int


@dataclass
class Proposals:
    """An answer: proposals, and how many were no rules, by reason."""

    rules: list[Proposal] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    ended: str = ""  # why the proposer will answer no more

    def refuse(self, reason: str, count: int = 1) -> None:
        """Counts what was no rule."""
        if count:
            self.refused[reason] = self.refused.get(reason, 0) + count


class Proposer(Protocol):
    """Writes rules.

    Attributes:
        again: whether it can be asked anew for each fold that is left out; what else it wrote stands for all folds.
    """

    again: ClassVar[bool]

    def propose(self, standing: Standing) -> Proposals:
        """New rules that might fix the errors on dev."""
        ...

    def cost(self) -> dict[str, float]:
        """What it has used so far: metrics by name."""
        ...


def rule_name(tag: str, what: str, taken: Collection[str]) -> str:
    """A name that nobody has: the tag and the first thing that the rule looks for.

    >>> rule_name("card lost", "can't find", {"card_lost.can_t_find"})
    'card_lost.can_t_find-2'
    """
    name = unused = f"{_slug(tag)}.{_slug(what)[:40].rstrip('_') or 'rule'}"
    if not re.match(r"[A-Za-z0-9_]", name):
        name = unused = f"_{name}"
    number = 2
    while unused in taken:
        unused, number = f"{name}-{number}", number + 1
    return unused


def _slug(text: str) -> str:
    return re.sub(r"\W+", "_", text).strip("_")

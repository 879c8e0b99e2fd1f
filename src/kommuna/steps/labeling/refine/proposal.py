"""The interface of proposers: the state of the loop that they receive, and the rules that they propose."""

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
    """A proposed rule.

    Attributes:
        rule: the rule.
        dev: d, the dev rows on which it votes. A vote must not depend on the row's own tag: on a row that the proposer
            has used, the vote is that of the rule in the same slot which was written without the row's fold, or none
            if the row was ever shown to the LLM. On other rows it is the rule's own vote.
        sample: s, the messages of the sample on which it votes.
        origin: the proposer and its reason, in a few words.
        slot: identifies the purpose of the rule within its round; on each fold of dev it is represented by the rule
            with the same slot that was written without the fold.
        kind: the precisions of rules of the same kind are assumed to be drawn from one distribution.
        rewritten: whether its votes on dev are those of the rules in its slot that were written without each fold.
    """

    rule: Rule
    dev: NDArray[np.bool_]
    sample: NDArray[np.bool_]
    origin: str
    slot: str
    kind: str
    rewritten: bool = False


@dataclass(frozen=True)
class LoopState:
    """The state of the loop before a round.

    Attributes:
        data: the rows.
        rules: the present rules.
        assigned: d x k, the tags that the label model assigns to each held-out dev row; a row without a vote has the
            default tag, or none.
        round: the number of the round, from 1.
        shown: d, whether a prompt has shown the row to an LLM.
    """

    data: RefineData
    rules: tuple[Rule, ...]
    assigned: NDArray[np.bool_]
    round: int
    shown: NDArray[np.bool_]


@dataclass
class Proposals:
    """A proposer's result.

    Attributes:
        rules: the proposed rules.
        refused: the number of refused rules by reason.
        ended: why the proposer will not propose any more rules; empty if it will.
        shown: d, whether a prompt of this round has shown the row to an LLM; None: no row.
    """

    rules: list[Proposal] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    ended: str = ""
    shown: NDArray[np.bool_] | None = None

    def refuse(self, reason: str, count: int = 1) -> None:
        """Counts refused rules.

        Args:
            reason: why they were refused.
            count: their number.
        """
        if count:
            self.refused[reason] = self.refused.get(reason, 0) + count


class Proposer(Protocol):
    """Writes rules.

    Attributes:
        rewrites_per_fold: whether it is called again without each fold of dev; otherwise its rules are used for all
            folds.
    """

    rewrites_per_fold: ClassVar[bool]

    def propose(self, state: LoopState) -> Proposals:
        """Returns new rules that might fix errors on dev."""
        ...

    def cost(self) -> dict[str, float]:
        """Returns the usage so far as metrics."""
        ...


def rule_name(tag: str, what: str, taken: Collection[str]) -> str:
    """Returns an unused name, made of the tag and a text.

    Args:
        tag: the rule's tag.
        what: what the rule looks for.
        taken: the names in use.

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

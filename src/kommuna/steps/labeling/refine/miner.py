"""The miner: writes rules without an LLM, from the words that tell the rows that the model got wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from kommuna.spec.rules import Rule
from kommuna.steps.labeling.refine.field import FOLDS
from kommuna.steps.labeling.refine.log_odds import log_odds
from kommuna.steps.labeling.refine.phrases import Findings
from kommuna.steps.labeling.refine.proposal import Proposal, Proposals, Standing, rule_name

_LEAST_Z = 1.64  # standard deviations of the log-odds: one-sided 95 %
_LEAST_ROWS = 2  # rows that a condition must mend, where it is written
_MOST_FOLDS_WITHOUT = 2  # folds that need not have found a condition: what only chance shows is found by few
_TIERS = (0.7, 0.4, 0.2, 0.1)  # precision where it is written: words of equal strength share a rule
_LONGEST_LIST = 12  # keywords of a rule: more are for the next round
_MOST_PAIRS = 3  # rules on pairs of words, for each tag and round

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Miner:
    """Writes `any` rules of phrases and `regex` rules of two words, for and against tags.

    Each fold of dev is left out once. From the others' rows come, for each tag, the conditions whose informative
    log-odds (`log_odds`) between the tag's missed rows and all other tags' rows are surely above zero; against a
    tag, those between the rows wrongly told it and the rows that have it. A condition that most folds find is
    proposed; it is judged on the rows of exactly those folds that found it without them.

    Args:
        findings: phrases and pairs of all dev rows.
        keys: those rows' keys; what is asked may be about some of them, in the same order.
    """

    again: ClassVar[bool] = True

    def __init__(self, findings: Findings, keys: pl.Series) -> None:
        self._all = self._found = findings
        self._keys = keys
        self._pair = np.array([not isinstance(condition, str) for condition in findings.conditions])

    def cost(self) -> dict[str, float]:
        return {}

    def propose(self, standing: Standing) -> Proposals:
        field = standing.field
        self._found = self._all.of(np.flatnonzero(self._keys.is_in(field.dev[field.key].implode()).to_numpy()))
        missed = field.truth & ~standing.told
        wrong = standing.told & ~field.truth
        answer = Proposals()
        taken = {rule.name for rule in standing.rules}
        known = _known(standing.rules)
        everyone = np.ones_like(field.truth)
        for against, rows, others, judged in (
            (False, missed, ~field.truth, everyone),
            (True, wrong, field.truth, standing.told),
        ):
            right = ~field.truth if against else field.truth
            mined = self._mine(rows, others, right & judged, judged, field.fold)
            for tag in range(len(field.tags)):
                for proposal in self._rules(mined, tag, field.tags[tag], field.fold, against, known, taken):
                    taken.add(proposal.rule.name)
                    answer.rules.append(proposal)
        return answer

    def _mine(self, rows: Mask, others: Mask, right: Mask, judged: Mask, fold: NDArray[np.int64]) -> _Mined:
        """Looks for conditions, leaving out each fold once."""
        shape = (FOLDS, rows.shape[1], len(self._found))
        tier = np.full(shape, -1, dtype=np.int8)
        z = np.zeros(shape[1:])
        for f in range(FOLDS):
            dev = self._found.dev[np.flatnonzero(fold != f)]
            there, elsewhere, hits, good = (_per_tag(mask[fold != f], dev) for mask in (rows, others, judged, right))
            surely = log_odds(there, elsewhere, self._found.seen)
            precision = good / np.maximum(hits, 1)
            fit = (surely >= _LEAST_Z) & (there >= _LEAST_ROWS)
            for number, least in reversed(list(enumerate(_TIERS))):
                tier[f][fit & (precision >= least)] = number
            z += surely / FOLDS
        return _Mined(tier, z)

    def _rules(
        self,
        mined: _Mined,
        tag: int,
        name: str,
        fold: NDArray[np.int64],
        against: bool,
        known: set[tuple[str, bool, str]],
        taken: set[str],
    ) -> list[Proposal]:
        proposals: list[Proposal] = []
        for tier in range(len(_TIERS)):
            found_in = mined.tier[:, tag, :] == tier
            steady = np.flatnonzero(found_in.sum(axis=0) >= FOLDS - _MOST_FOLDS_WITHOUT)
            order = steady[np.argsort(-mined.z[tag, steady], kind="stable")]
            fresh = [j for j in order if (name, against, self._found.looked_for(j)) not in known]
            words = _without_implied([j for j in fresh if not self._pair[j]], self._found)[:_LONGEST_LIST]
            if words:
                phrases = tuple(str(self._found.conditions[j]) for j in words)
                rule = Rule(
                    name=rule_name(name, ("not_" if against else "") + phrases[0], taken | _names(proposals)),
                    tag=name, any=phrases, against=against,
                )  # fmt: skip
                proposals.append(self._proposal(rule, words, found_in, mined.z[tag, words[0]], fold))
            for j in [j for j in fresh if self._pair[j]][:_MOST_PAIRS]:
                a, b = self._found.conditions[j]
                rule = Rule(
                    name=rule_name(name, f"{'not_' if against else ''}{a}_{b}", taken | _names(proposals)),
                    tag=name, regex=self._found.looked_for(j), against=against,
                )  # fmt: skip
                proposals.append(self._proposal(rule, [j], found_in, mined.z[tag, j], fold))
        return proposals

    def _proposal(self, rule: Rule, columns: list[int], found_in: Mask, z: float, fold: NDArray[np.int64]) -> Proposal:
        """The rule, to be judged on each row only by conditions that were found without it."""
        hit = self._found.dev[:, columns].toarray() > 0
        found_without = found_in[:, columns][fold]
        unseen = (hit & found_without).any(axis=1) | ~hit.any(axis=1)
        seen = int(self._found.seen[columns].max())
        return Proposal(rule, unseen, f"miner: log-odds {z:.1f} standard deviations, in {seen:,} messages")


@dataclass(frozen=True)
class _Mined:
    """tier: folds x k x c, the strength that each fold found, -1 where it found nothing; z: k x c, on average."""

    tier: NDArray[np.int8]
    z: Floats


def _per_tag(rows: Mask, dev: sparse.csr_array) -> Floats:
    """k x c: on how many of each tag's rows the condition holds."""
    return np.asarray((dev.T @ rows.astype(np.float32)).T, dtype=np.float64)


def _names(proposals: list[Proposal]) -> set[str]:
    return {proposal.rule.name for proposal in proposals}


def _known(rules: tuple[Rule, ...]) -> set[tuple[str, bool, str]]:
    """What present rules look for."""
    return {
        (rule.tag or "", rule.against, looked_for)
        for rule in rules
        for looked_for in (*(rule.any or ()), *((rule.regex,) if rule.regex else ()))
    }


def _without_implied(columns: list[int], found: Findings) -> list[int]:
    """Phrases that hold a shorter one of the list within them add nothing to it."""
    phrases = {j: f" {found.conditions[j]} " for j in columns}
    return [j for j in columns if not any(i != j and phrases[i] in phrases[j] for i in columns)]

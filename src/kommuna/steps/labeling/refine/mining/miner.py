"""The miner: writes rules without an LLM, from the words that tell the rows that the model got wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from kommuna.spec.rules import KeywordRule, RegexRule, Rule
from kommuna.steps.labeling.refine.data import RefineData
from kommuna.steps.labeling.refine.mining.log_odds import log_odds
from kommuna.steps.labeling.refine.mining.phrases import Findings
from kommuna.steps.labeling.refine.mining.regex_bound import MOST_CHARACTERS
from kommuna.steps.labeling.refine.proposal import Proposal, Proposals, Standing, rule_name
from kommuna.steps.labeling.refine.teacher import Teacher
from kommuna.steps.labeling.rules.text.stems import stem
from kommuna.steps.labeling.rules.text.tokens import tokens

_AT_ONCE = 2  # folds that a rule is written without: half as many as to leave out each
_LEAST_Z = 1.64  # standard deviations of the log-odds: one-sided 95 %
_LEAST_ROWS = 1  # dev rows that a condition must fix, where it is written
_TIERS = (0.85, 0.7, 0.55)  # precision where it is written, one row at the tag's share besides: equals share a rule
_LONGEST_LIST = 12  # keywords of a rule
_MOST_RULES = 10  # of a tag, tier and kind in one round

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Columns = NDArray[np.intp]


class Miner:
    """Writes `any` rules of phrases and `regex` rules of pairs of words, for and against tags.

    From the rows come, for each tag, the conditions whose informative log-odds (`log_odds`) between the tag's missed
    rows and all other tags' rows are surely above zero, and that are mostly right; a `Teacher` who knows the same rows
    adds messages to them. Against a tag come those between the rows wrongly told it and the rows that have it.
    Conditions of equal strength share a rule. The same is done without each fold of the rows: on its rows votes the
    rule that is written without it. Beside these are rules on the words of a tag's own name, which are written from no
    row.

    Args:
        data: all rows.
        findings: phrases and pairs of its dev rows and its sample. What is asked may be about some of the dev rows, in
            the same order.
    """

    again: ClassVar[bool] = True

    def __init__(self, data: RefineData, findings: Findings) -> None:
        self._found = findings
        self._keys = data.dev[data.key]
        self._teacher = Teacher(data.dev[data.text], data.sample[data.text])
        self._taught: dict[tuple[int, ...], sparse.csr_array] = {}
        self._pair = np.array([not isinstance(condition, str) for condition in findings.conditions], dtype=np.bool_)
        self._looked_for = [findings.looked_for(column) for column in range(len(findings))]
        self._words = [
            {self._key(word) for word in (c.split() if isinstance(c, str) else (c[0][0], c[1][0]))}
            for c in findings.conditions
        ]
        self._dev, self._sample = findings.dev.tocsc(), findings.sample.tocsc()
        self._share = (findings.seen + 1.0) / (findings.seen + 1.0).sum()
        self._in_sample = np.asarray(findings.sample.sum(axis=0), dtype=np.float64)

    def cost(self) -> dict[str, float]:
        """Returns nothing: mining uses no service."""
        return {}

    def propose(self, standing: Standing) -> Proposals:
        """Proposes rules for the errors that the present rules leave."""
        answer = Proposals()
        data = standing.data
        rows = np.flatnonzero(self._keys.is_in(data.dev[data.key].implode()).to_numpy())
        known, taken = self._known(standing.rules), {rule.name for rule in standing.rules}
        for columns, against, tag, dev, origin, slot, kind, rewritten in (
            *self._mined(standing, rows, known), *self._of_names(standing, known)
        ):  # fmt: skip
            rule = self._rule(data.tags[tag], against, columns, taken)
            taken.add(rule.name)
            answer.rules.append(Proposal(rule, dev, _held(self._sample, columns), origin, slot, kind, rewritten))
        return answer

    def _mined(self, standing: Standing, rows: Columns, known: set[tuple[str, bool, str]]) -> Iterator[_Draft]:
        data = standing.data
        fold = np.full(len(self._keys), -1)  # of all dev rows; those that nobody asked about have none
        fold[rows] = data.fold
        for asked in _Asked.of(standing):
            whole = self._written(asked, rows, data, known)
            without = {f: self._written(asked, rows, data, known, int(f)) for f in np.unique(data.fold // _AT_ONCE)}
            for slot, (own, z) in whole.items():
                dev = (fold < 0) & _held(self._dev, own)
                for f, written in without.items():
                    if slot in written:
                        dev |= (fold // _AT_ONCE == f) & _held(self._dev, written[slot][0])
                seen = int(self._found.seen[own].max())
                origin = f"miner: log-odds {z:.1f} standard deviations, in {seen:,} messages"
                yield _Draft(own, slot.against, slot.tag, dev, origin, str(slot), f"mined {slot.tier}", True)

    def _of_names(self, standing: Standing, known: set[tuple[str, bool, str]]) -> Iterator[_Draft]:
        """Conditions all of whose words stand in the tag's name."""
        data = standing.data
        for tag in np.flatnonzero((data.truth & ~standing.assigned).any(axis=0)):
            name = data.tags[tag]
            own = {self._key(word) for word in tokens(name.replace("_", " "))}
            for column, words in enumerate(self._words):
                if words <= own and (name, False, self._looked_for[column]) not in known:
                    dev = _held(self._dev, [column])
                    slot = f"name {tag} {column}"
                    yield _Draft([column], False, int(tag), dev, "miner: the tag's name", slot, "name", False)

    def _written(
        self, asked: _Asked, rows: Columns, data: RefineData, known: set[tuple[str, bool, str]], part: int | None = None
    ) -> dict[_Slot, tuple[list[int], float]]:
        """The conditions of each rule, the surest first, and the first one's log-odds.

        Args:
            asked: which rows the rules are wanted for.
            rows: places of the dev rows among the rows of the findings.
            data: the rows and tags that rules are refined on.
            known: what present rules look for already.
            part: folds that are left out; None: none.
        """
        left = np.flatnonzero(data.fold // _AT_ONCE != part) if part is not None else np.arange(len(rows))
        dev = self._found.dev[rows[left]]
        there = _per_tag(asked.rows[left], dev)
        tag, column = there.nonzero()
        if not len(tag):
            return {}

        def counts(mask: Mask) -> tuple[Floats, Floats]:
            """Of each entry: rows of the mask that hold the condition, and all conditions that they hold."""
            per_tag = _per_tag(mask[left], dev)
            return per_tag[tag, column].astype(np.float64), per_tag.sum(axis=1, dtype=np.float64)[tag]

        y, n = counts(asked.rows)
        x, m = counts(asked.others)
        hits, good = counts(asked.judged)[0], counts(asked.right)[0]
        if not asked.against:
            told = self._told_by_teacher(rows[left], data, left)
            more, all_more = told[tag, column].astype(np.float64), told.sum(axis=1, dtype=np.float64)[tag]
            y, n, good, hits = y + more, n + all_more, good + more, hits + self._in_sample[column]
            x, m = x + self._in_sample[column] - more, m + self._in_sample.sum() - all_more
        z = log_odds(y, n, x, m, self._share[column])
        share = (asked.right[left].sum(axis=0) + 1) / (asked.judged[left].sum(axis=0) + 2)
        strength = (good + share[tag]) / (hits + 1)
        tier = np.digitize(-strength, [-least for least in _TIERS])
        fit = (z >= _LEAST_Z) & (there[tag, column] >= _LEAST_ROWS) & (tier < len(_TIERS))
        order = np.lexsort((column, -z, tag))
        by_tag: dict[int, list[int]] = {}
        for entry in order[fit[order]]:
            by_tag.setdefault(int(tag[entry]), []).append(int(entry))
        written: dict[_Slot, tuple[list[int], float]] = {}
        for own_tag, entries in by_tag.items():
            name = data.tags[own_tag]
            fresh = [e for e in entries if (name, asked.against, self._looked_for[column[e]]) not in known]
            tier_of, z_of = ({int(column[e]): value[e] for e in fresh} for value in (tier, z))
            words = self._without_implied([j for j in tier_of if not self._pair[j]])
            pairs = [j for j in tier_of if self._pair[j]]
            for number in range(len(_TIERS)):
                lists = _in_twelves([j for j in words if tier_of[j] == number])
                regexes = self._fitting([j for j in pairs if tier_of[j] == number])
                for kind, parts in (("any", lists), ("regex", regexes)):
                    for part, own in enumerate(parts[:_MOST_RULES]):
                        written[_Slot(own_tag, asked.against, kind, number, part)] = own, float(z_of[own[0]])
        return written

    def _told_by_teacher(self, rows: Columns, data: RefineData, left: Columns) -> NDArray[np.float32]:
        """k x c: messages of the sample that hold the condition and are given the tag by who was taught by the rows."""
        folds = tuple(int(f) for f in np.unique(data.fold[left]))
        if folds not in self._taught:
            self._taught[folds] = self._teacher.tags(rows, data.truth[left], several_tags=data.several_tags)
        return _per_tag(self._taught[folds], self._found.sample)

    def _rule(self, tag: str, against: bool, columns: list[int], taken: set[str]) -> Rule:
        conditions = [self._looked_for[j] for j in columns]
        first = self._found.conditions[columns[0]]
        what = ("not_" if against else "") + (first if isinstance(first, str) else f"{first[0][0]}_{first[1][0]}")
        name = rule_name(tag, what, taken)
        if isinstance(first, str):
            return KeywordRule(name=name, tag=tag, any=tuple(conditions), stem=self._found.language, against=against)
        return RegexRule(name=name, tag=tag, regex="|".join(conditions), against=against)

    def _fitting(self, pairs: list[int]) -> list[list[int]]:
        """Pairs that share a regular expression of no more than `MOST_CHARACTERS`."""
        parts: list[list[int]] = []
        length = 0
        for j in pairs:
            own = len(self._looked_for[j]) + 1
            if own > MOST_CHARACTERS:
                continue
            if not parts or length + own > MOST_CHARACTERS:
                parts.append([])
                length = 0
            parts[-1].append(j)
            length += own
        return parts

    def _known(self, rules: tuple[Rule, ...]) -> set[tuple[str, bool, str]]:
        """What present rules look for."""
        known: set[tuple[str, bool, str]] = set()
        for rule in rules:
            if isinstance(rule, KeywordRule):
                known |= {(rule.tag or "", rule.against, keyword) for keyword in rule.any}
            elif isinstance(rule, RegexRule):
                parts = rule.regex.split("|")
                pairs = {"|".join(parts[at : at + length]) for length in (2, 4) for at in range(len(parts))}
                known |= {(rule.tag or "", rule.against, pair) for pair in pairs | {rule.regex}}
        return known

    def _key(self, word: str) -> str:
        return stem(self._found.language, word) if self._found.language else word

    def _without_implied(self, columns: list[int]) -> list[int]:
        """Phrases that hold a shorter one of the list within them add nothing to it."""
        phrases = {j: f" {self._found.conditions[j]} " for j in columns}
        every = set(phrases.values())
        return [j for j in columns if not any(part in every for part in _parts(phrases[j]))]


@dataclass(frozen=True)
class _Slot:
    """A rule's place among those that are written at once."""

    tag: int
    against: bool
    kind: str
    tier: int
    part: int


@dataclass(frozen=True)
class _Asked:
    """Which rows are asked about, d x k each.

    Attributes:
        rows: those to fix.
        others: those that they are told from.
        judged: those on which a vote is right or wrong.
        right: those on which it is right.
    """

    against: bool
    rows: Mask
    others: Mask
    judged: Mask
    right: Mask

    @classmethod
    def of(cls, standing: Standing) -> tuple[_Asked, _Asked]:
        """For tags, and against them."""
        truth, told = standing.data.truth, standing.assigned
        return (
            cls(False, truth & ~told, ~truth, np.ones_like(truth), truth),
            cls(True, told & ~truth, truth, told, told & ~truth),
        )


class _Draft(NamedTuple):
    """A rule before it has a name."""

    columns: list[int]
    against: bool
    tag: int
    dev: Mask
    origin: str
    slot: str
    kind: str
    rewritten: bool


def _per_tag(rows: Mask | sparse.csr_array, conditions: sparse.csr_array) -> NDArray[np.float32]:
    """k x c: on how many of each tag's rows the condition holds."""
    return (sparse.csr_array(rows, dtype=np.float32).T @ conditions).toarray()  # type: ignore[no-any-return]


def _held(dev: sparse.csc_array, columns: list[int]) -> Mask:
    """d, whether any of the conditions holds."""
    fired = np.zeros(dev.shape[0], dtype=np.bool_)
    for column in columns:
        fired[dev.indices[dev.indptr[column] : dev.indptr[column + 1]]] = True
    return fired


def _in_twelves(columns: list[int]) -> list[list[int]]:
    return [columns[start : start + _LONGEST_LIST] for start in range(0, len(columns), _LONGEST_LIST)]


def _parts(phrase: str) -> Iterator[str]:
    """The shorter phrases within one.

    >>> list(_parts(" lost my card "))
    [' lost ', ' lost my ', ' my ', ' my card ', ' card ']
    """
    words = phrase.split()
    for start in range(len(words)):
        for end in range(start + 1, len(words) + 1):
            if end - start < len(words):
                yield f" {' '.join(words[start:end])} "

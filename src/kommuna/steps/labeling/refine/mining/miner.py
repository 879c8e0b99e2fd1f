"""The miner: writes rules without an LLM, from words that are typical of the rows that the model got wrong."""

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
from kommuna.steps.labeling.refine.proposal import LoopState, Proposal, Proposals, rule_name
from kommuna.steps.labeling.refine.teacher import Teacher
from kommuna.steps.labeling.rules.text.stems import stem
from kommuna.steps.labeling.rules.text.tokens import tokens

_AT_ONCE = 2  # folds that are left out together, which halves the work
_LEAST_Z = 1.64  # the smallest z-score of log-odds: one-sided 95 %
_LEAST_ROWS = 1  # the smallest number of rows that a condition fixes, among those it is written from
_TIERS = (0.85, 0.7, 0.55)  # smallest precisions on the same rows (smoothed); conditions of one tier share a rule
_LONGEST_LIST = 12  # keywords of a rule
_MOST_RULES = 10  # per tag, tier and kind in one round

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Columns = NDArray[np.intp]


class Miner:
    """Writes `any` rules of phrases and `regex` rules of pairs of words, for and against tags.

    For a tag it selects the conditions that are mostly right and whose log-odds (`log_odds`) between the tag's missed
    rows and the rows of other tags are significantly above zero. Messages with tags predicted by a `Teacher` from the
    same rows are counted too. Against a tag it compares the rows that were wrongly assigned the tag with those that
    have it. Conditions with similar precision share a rule. This is repeated without each fold; the votes on the fold
    are those of the rules that were written without it. In addition it writes rules from the words of a tag's name,
    which depend on no row.

    Args:
        data: all rows.
        findings: phrases and pairs in its dev rows and its sample. `propose` may be called for some of the dev rows, in
            the same order.
    """

    rewrites_per_fold: ClassVar[bool] = True

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
        """Returns no usage: mining uses no service."""
        return {}

    def propose(self, state: LoopState) -> Proposals:
        """Proposes rules for the remaining errors on dev."""
        answer = Proposals()
        data = state.data
        rows = np.flatnonzero(self._keys.is_in(data.dev[data.key].implode()).to_numpy())
        known, taken = self._known(state.rules), {rule.name for rule in state.rules}
        for columns, against, tag, dev, origin, slot, kind, rewritten in (
            *self._mined(state, rows, known), *self._of_names(state, known)
        ):  # fmt: skip
            rule = self._rule(data.tags[tag], against, columns, taken)
            taken.add(rule.name)
            answer.rules.append(Proposal(rule, dev, _any_of(self._sample, columns), origin, slot, kind, rewritten))
        return answer

    def _mined(self, state: LoopState, rows: Columns, known: set[tuple[str, bool, str]]) -> Iterator[_Draft]:
        data = state.data
        fold = np.full(len(self._keys), -1)  # of all dev rows; rows that are not in the state have no fold
        fold[rows] = data.fold
        for target in _TargetRows.of(state):
            whole = self._written(target, rows, data, known)
            without = {f: self._written(target, rows, data, known, int(f)) for f in np.unique(data.fold // _AT_ONCE)}
            for slot, (own, z) in whole.items():
                dev = (fold < 0) & _any_of(self._dev, own)
                for f, written in without.items():
                    if slot in written:
                        dev |= (fold // _AT_ONCE == f) & _any_of(self._dev, written[slot][0])
                seen = int(self._found.seen[own].max())
                origin = f"miner: log-odds {z:.1f} standard deviations, in {seen:,} messages"
                yield _Draft(own, slot.against, slot.tag, dev, origin, str(slot), f"mined {slot.tier}", True)

    def _of_names(self, state: LoopState, known: set[tuple[str, bool, str]]) -> Iterator[_Draft]:
        """Yields the conditions whose words are all in the tag's name."""
        data = state.data
        for tag in np.flatnonzero((data.truth & ~state.assigned).any(axis=0)):
            name = data.tags[tag]
            own = {self._key(word) for word in tokens(name.replace("_", " "))}
            for column, words in enumerate(self._words):
                if words <= own and (name, False, self._looked_for[column]) not in known:
                    dev = _any_of(self._dev, [column])
                    slot = f"name {tag} {column}"
                    yield _Draft([column], False, int(tag), dev, "miner: the tag's name", slot, "name", False)

    def _written(
        self,
        target: _TargetRows,
        rows: Columns,
        data: RefineData,
        known: set[tuple[str, bool, str]],
        part: int | None = None,
    ) -> dict[_Slot, tuple[list[int], float]]:
        """Returns the conditions of each rule, ordered by their log-odds, and the highest log-odds.

        Args:
            target: the rows to fix.
            rows: indices of the dev rows among the rows of the findings.
            data: the rows and tags that rules are refined on.
            known: the conditions of the present rules.
            part: the folds that are left out; None: none.
        """
        left = np.flatnonzero(data.fold // _AT_ONCE != part) if part is not None else np.arange(len(rows))
        dev = self._found.dev[rows[left]]
        there = _per_tag(target.rows[left], dev)
        tag, column = there.nonzero()
        if not len(tag):
            return {}

        def counts(mask: Mask) -> tuple[Floats, Floats]:
            """Returns for each entry the rows of the mask with the condition, and the sum over all conditions."""
            per_tag = _per_tag(mask[left], dev)
            return per_tag[tag, column].astype(np.float64), per_tag.sum(axis=1, dtype=np.float64)[tag]

        y, n = counts(target.rows)
        x, m = counts(target.others)
        hits, good = counts(target.judged)[0], counts(target.right)[0]
        if not target.against:
            predicted = self._predicted_by_teacher(rows[left], data, left)
            more, all_more = predicted[tag, column].astype(np.float64), predicted.sum(axis=1, dtype=np.float64)[tag]
            y, n, good, hits = y + more, n + all_more, good + more, hits + self._in_sample[column]
            x, m = x + self._in_sample[column] - more, m + self._in_sample.sum() - all_more
        z = log_odds(y, n, x, m, self._share[column])
        share = (target.right[left].sum(axis=0) + 1) / (target.judged[left].sum(axis=0) + 2)
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
            fresh = [e for e in entries if (name, target.against, self._looked_for[column[e]]) not in known]
            tier_of, z_of = ({int(column[e]): value[e] for e in fresh} for value in (tier, z))
            words = self._without_implied([j for j in tier_of if not self._pair[j]])
            pairs = [j for j in tier_of if self._pair[j]]
            for number in range(len(_TIERS)):
                lists = _chunks([j for j in words if tier_of[j] == number])
                regexes = self._fitting([j for j in pairs if tier_of[j] == number])
                for kind, parts in (("any", lists), ("regex", regexes)):
                    for part, own in enumerate(parts[:_MOST_RULES]):
                        written[_Slot(own_tag, target.against, kind, number, part)] = own, float(z_of[own[0]])
        return written

    def _predicted_by_teacher(self, rows: Columns, data: RefineData, left: Columns) -> NDArray[np.float32]:
        """Returns k x c, the messages with the condition that are predicted, from some dev rows, to have the tag."""
        folds = tuple(int(f) for f in np.unique(data.fold[left]))
        if folds not in self._taught:
            self._taught[folds] = self._teacher.tags(rows, data.truth[left], multi_label=data.multi_label)
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
        """Splits pairs into lists whose regular expressions have at most `MOST_CHARACTERS`."""
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
        """Returns the conditions of the present rules."""
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
        """Removes phrases that contain a shorter phrase of the list: they add no vote."""
        phrases = {j: f" {self._found.conditions[j]} " for j in columns}
        every = set(phrases.values())
        return [j for j in columns if not any(part in every for part in _parts(phrases[j]))]


@dataclass(frozen=True)
class _Slot:
    """Identifies a rule among those that are written together."""

    tag: int
    against: bool
    kind: str
    tier: int
    part: int


@dataclass(frozen=True)
class _TargetRows:
    """The rows that rules are written from, d x k each.

    Attributes:
        against: whether rules are against the tags.
        rows: the rows to fix.
        others: the rows to distinguish them from.
        judged: the rows on which a vote is right or wrong.
        right: the rows on which it is right.
    """

    against: bool
    rows: Mask
    others: Mask
    judged: Mask
    right: Mask

    @classmethod
    def of(cls, state: LoopState) -> tuple[_TargetRows, _TargetRows]:
        """Returns the rows for rules for tags, and for rules against them."""
        truth, assigned = state.data.truth, state.assigned
        return (
            cls(False, truth & ~assigned, ~truth, np.ones_like(truth), truth),
            cls(True, assigned & ~truth, truth, assigned, assigned & ~truth),
        )


class _Draft(NamedTuple):
    """A rule without a name."""

    columns: list[int]
    against: bool
    tag: int
    dev: Mask
    origin: str
    slot: str
    kind: str
    rewritten: bool


def _per_tag(rows: Mask | sparse.csr_array, conditions: sparse.csr_array) -> NDArray[np.float32]:
    """Returns k x c, the number of each tag's rows on which the condition holds."""
    return (sparse.csr_array(rows, dtype=np.float32).T @ conditions).toarray()  # type: ignore[no-any-return]


def _any_of(dev: sparse.csc_array, columns: list[int]) -> Mask:
    """Returns d, whether any of the conditions holds on the row."""
    fired = np.zeros(dev.shape[0], dtype=np.bool_)
    for column in columns:
        fired[dev.indices[dev.indptr[column] : dev.indptr[column + 1]]] = True
    return fired


def _chunks(columns: list[int]) -> list[list[int]]:
    """Splits columns into lists of at most `_LONGEST_LIST`."""
    return [columns[start : start + _LONGEST_LIST] for start in range(0, len(columns), _LONGEST_LIST)]


def _parts(phrase: str) -> Iterator[str]:
    """Yields the shorter phrases within a phrase.

    >>> list(_parts(" lost my card "))
    [' lost ', ' lost my ', ' my ', ' my card ', ' card ']
    """
    words = phrase.split()
    for start in range(len(words)):
        for end in range(start + 1, len(words) + 1):
            if end - start < len(words):
                yield f" {' '.join(words[start:end])} "

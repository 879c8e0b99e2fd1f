"""Screens proposals on dev, each by votes that are told without the row."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaln

from kommuna.steps.labeling.refine.data import FOLDS, RefineData
from kommuna.steps.labeling.refine.judge import Judgement
from kommuna.steps.labeling.refine.proposal import Proposal
from kommuna.steps.labeling.votes.patterns import ABSTAIN, Codes
from kommuna.steps.statistics import TagCounts, wilson

MOST_COVERAGE = 0.9  # share of messages past which a rule says nothing
MOST_CORRELATION = 0.9
MOST_FALSE = 0.05  # share of the rules that pass, expected to be below the bar
_MEANS = np.linspace(0.02, 0.98, 49)[:, None]  # of the grid that a Beta distribution is looked for on
_ROWS = np.geomspace(0.5, 10, 25)[None]  # on held-out rows precisions of mined rules spread as by 5 to 16 votes
_REWRITTEN = 0.5  # what a dev vote counts for that was cast by another rule, written in the slot without the row
_SHRINK = 2.0  # rows that the tag's share weighs against a rule's own precision

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Candidate:
    """A proposal with its votes.

    Attributes:
        dev: d codes; on each row as told without it (`Proposal.dev`).
        sample: s codes.
        right: votes on dev that are right.
        cast: votes on dev.
        low: lower end of the 95 % interval of their precision.
        doubt: probability that its precision is below the bar.
        gain: what it added to macro F1 on dev when it was picked.
    """

    proposal: Proposal
    dev: Codes
    sample: Codes
    right: int = 0
    cast: int = 0
    low: float = 0.0
    doubt: float = 1.0
    gain: float = 0.0


@dataclass
class Screened:
    """Candidates that passed, the best first, and how many did not, by reason."""

    passed: list[Candidate] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)

    def refuse(self, reason: str, count: int = 1) -> None:
        """Counts what did not pass."""
        if count:
            self.refused[reason] = self.refused.get(reason, 0) + count


def candidate_of(data: RefineData, proposal: Proposal) -> Candidate:
    """The proposal with its votes."""
    code = data.code(proposal.rule)
    return Candidate(proposal, codes(proposal.dev, code), codes(proposal.sample, code))


def screen(
    rows: RefineData,
    proposed: list[Candidate],
    dev: Codes,
    sample: Codes,
    standing: Judgement,
    *,
    least_precision: float,
) -> Screened:
    """Picks the candidates that are precise, new and no harm.

    Args:
        rows: the rows and tags that rules are refined on.
        proposed: candidates; their votes are those on the d dev rows of `rows`.
        dev: d x m, the present rules' votes on dev.
        sample: s x m, and on the sample.
        standing: how the present rules do.
        least_precision: the lower end of the 95 % Wilson interval of a rule's precision has to reach this. Of a rule
            against a tag precision is counted on rows that were told the tag: elsewhere it is right for nothing.
    """
    screened = Screened()
    candidates: list[Candidate] = []
    for candidate in proposed:
        if float((candidate.sample != ABSTAIN).mean()) > MOST_COVERAGE:
            screened.refuse("votes on nearly every message")
        elif not (candidate.sample != ABSTAIN).any():
            screened.refuse("no vote on a message")
        else:
            candidates.append(_counted(candidate, rows, standing))
    judged = [candidate for candidate in candidates if candidate.cast or candidate.proposal.rewritten]
    screened.refuse("no vote on a dev row that it was not written from", len(candidates) - len(judged))
    precise = [candidate for candidate in _precise(judged, rows, standing) if candidate.low >= least_precision]
    screened.refuse("not surely precise", len(judged) - len(precise))
    precise.sort(key=lambda c: (-c.low * c.right, c.proposal.rule.name))
    _pick(rows, precise, _Present(dev, sample), standing, screened)
    return screened


def _judged(candidate: Candidate, rows: RefineData, standing: Judgement) -> tuple[Mask, Mask]:
    """On which rows (d) a vote would be right, and which rows judge it."""
    rule = candidate.proposal.rule
    tag = rows.tags.index(rule.tag or "")
    if rule.against:
        return ~rows.truth[:, tag], standing.assigned[:, tag]
    return rows.truth[:, tag], np.ones(len(rows.truth), dtype=np.bool_)


def _counted(candidate: Candidate, rows: RefineData, standing: Judgement) -> Candidate:
    good, judged = _judged(candidate, rows, standing)
    votes = (candidate.dev != ABSTAIN) & judged
    right, cast = int(good[votes].sum()), int(votes.sum())
    return replace(candidate, right=right, cast=cast, low=wilson(right, cast)[0])


def _precise(candidates: list[Candidate], rows: RefineData, standing: Judgement) -> list[Candidate]:
    """The candidates that are likely precise, of all that were tried.

    The precisions of what was tried of a kind are taken as drawn from one Beta distribution (`beta_prior`), so a lucky
    one among many is believed less. A candidate's doubt is the posterior probability that its precision is below the
    bar: more often right than wrong, and more often than a rule that fires at random. As many pass, the least doubtful
    first, as are expected to be below the bar in no more than `MOST_FALSE` of the cases (the Bayesian false discovery
    rate: Efron 2010, "Large-scale inference", chapter 2).

    Dev votes that were cast in a rule's slot without the row (`Proposal.rewritten`) are other rules' votes: they tell
    the kind's mean, but less of each rule (`_REWRITTEN`), and a rule without any is believed as much as its kind.
    """
    doubted: list[Candidate] = []
    kinds: dict[tuple[str, bool], list[Candidate]] = {}
    for candidate in candidates:
        kinds.setdefault((candidate.proposal.kind, candidate.proposal.rule.against), []).append(candidate)
    for some in kinds.values():
        right, cast = (np.array([(c.right, c.cast) for c in some if c.cast], dtype=np.int64).reshape(-1, 2)).T
        a, b = beta_prior(right, cast)
        for candidate in some:
            good, judged = _judged(candidate, rows, standing)
            bar = max(0.5, float((good[judged].sum() + 1) / (judged.sum() + 2)))
            weight = _REWRITTEN if candidate.proposal.rewritten else 1.0
            yes, no = weight * candidate.right, weight * (candidate.cast - candidate.right)
            doubted.append(replace(candidate, doubt=float(betainc(a + yes, b + no, bar))))
    doubted.sort(key=lambda c: (c.doubt, c.proposal.rule.name))
    expected = np.cumsum([c.doubt for c in doubted]) / np.arange(1, len(doubted) + 1)
    return doubted[: int((expected <= MOST_FALSE).sum())]


def beta_prior(right: NDArray[np.int64], cast: NDArray[np.int64]) -> tuple[float, float]:
    """The Beta distribution that precisions of rules are likeliest drawn from: its a and b.

    By maximum likelihood of the beta-binomial counts over a grid; two rules more, one right once and one wrong once,
    keep few rules from making it sure.
    """
    r, n = (np.concatenate([counts, extra])[:, None] for counts, extra in ((right, [1, 0]), (cast, [1, 1])))
    a, b = (_MEANS * _ROWS).ravel()[None], ((1 - _MEANS) * _ROWS).ravel()[None]
    likelihood = (betaln(a + r, b + n - r) - betaln(a, b)).sum(axis=0)
    best = int(likelihood.argmax())
    return float(a[0, best]), float(b[0, best])


def codes(fired: Mask, code: int) -> Codes:
    """A rule's votes where it fires."""
    return np.where(fired, code, ABSTAIN).astype(np.int16)


class _Present:
    """The votes of rules that are in, to tell copies of them."""

    def __init__(self, dev: Codes, sample: Codes) -> None:
        votes = np.concatenate([dev, sample])
        self._value = [int(column.max(initial=ABSTAIN)) for column in votes.T]
        self._fired: list[Mask] = [column != ABSTAIN for column in votes.T]

    def copy_of(self, candidate: Candidate) -> str:
        """Why the candidate is nothing new; empty if it is."""
        votes = np.concatenate([candidate.dev, candidate.sample])
        fired, value = votes != ABSTAIN, int(votes.max())
        for other, its in zip(self._fired, self._value, strict=True):
            if its != value:
                continue
            if np.array_equal(fired, other):
                return "the same votes as a present rule"
            if _correlation(fired, other) > MOST_CORRELATION:
                return "too correlated with a present rule"
        return ""

    def add(self, candidate: Candidate) -> None:
        votes = np.concatenate([candidate.dev, candidate.sample])
        self._fired.append(votes != ABSTAIN)
        self._value.append(int(votes.max()))


def _correlation(a: Mask, b: Mask) -> float:
    """Pearson's, of two yes-or-no columns."""
    n, x, y = len(a), int(a.sum()), int(b.sum())
    spread = math.sqrt(x * (n - x) * float(y * (n - y)))
    return (n * int((a & b).sum()) - x * y) / spread if spread else 0.0


def _pick(
    rows: RefineData, candidates: list[Candidate], present: _Present, standing: Judgement, screened: Screened
) -> None:
    """Takes candidates one by one, the strongest first, unless macro F1 on dev falls.

    A candidate that adds nothing on dev is taken: it is right on other messages too.
    """
    scores = _Scores(rows, standing)
    for candidate in candidates:
        same = present.copy_of(candidate)
        if same:
            screened.refuse(same)
            continue
        gain = scores.gain(candidate)
        if gain < 0:
            screened.refuse("lowers macro F1")
            continue
        scores.take(candidate)
        present.add(candidate)
        screened.passed.append(replace(candidate, gain=gain))


class _Scores:
    """Macro F1 on dev as rules are added: each is one more witness to what the label model said without the label.

    A vote for a tag adds ``logit(p) - logit(share of the tag)`` to the tag's log-odds, p being the rule's precision on
    the other folds, shrunk to the tag's share: the naive Bayes update.
    """

    def __init__(self, rows: RefineData, standing: Judgement) -> None:
        self._rows = rows
        probabilities = np.clip(standing.probabilities, 1e-6, 1 - 1e-6)
        self._scores: Floats = np.log(probabilities) - (np.log1p(-probabilities) if rows.several_tags else 0.0)
        self._told = standing.assigned.copy()
        self._counts = TagCounts.of(self._told, rows.truth)
        self._share = (rows.truth.sum(axis=0) + 1) / (len(rows.truth) + 2)

    def gain(self, candidate: Candidate) -> float:
        """What the candidate would add to macro F1."""
        fired, _, told = self._after(candidate)
        moved = self._moved(fired, told)
        return float(moved.macro(moved.f1) - self._counts.macro(self._counts.f1))

    def take(self, candidate: Candidate) -> None:
        """Adds the candidate."""
        fired, scores, told = self._after(candidate)
        self._counts = self._moved(fired, told)
        self._scores[fired], self._told[fired] = scores, told

    def _after(self, candidate: Candidate) -> tuple[NDArray[np.intp], Floats, Mask]:
        fired = np.flatnonzero(candidate.dev != ABSTAIN)
        tag = self._rows.tags.index(candidate.proposal.rule.tag or "")
        has, fold = self._rows.truth[fired, tag], self._rows.fold[fired]
        weight = np.zeros(len(fired))
        for f in range(FOLDS):
            others = fold != f
            precision = (has[others].sum() + _SHRINK * self._share[tag]) / (others.sum() + _SHRINK)
            precision = min(max(float(precision), 1e-4), 1 - 1e-4)
            weight[fold == f] = _logit(precision) - _logit(float(self._share[tag]))
        scores = self._scores[fired].copy()
        scores[:, tag] += weight
        told = self._told[fired].copy()
        if self._rows.several_tags:
            told[:, tag] = scores[:, tag] >= 0
        else:
            told[:] = False
            told[np.arange(len(fired)), scores.argmax(axis=1)] = True
        return fired, scores, told

    def _moved(self, fired: NDArray[np.intp], told: Mask) -> TagCounts:
        truth = self._rows.truth[fired]
        return self._counts + TagCounts.of(told, truth) - TagCounts.of(self._told[fired], truth)


def _logit(p: float) -> float:
    return math.log(p) - math.log1p(-p)

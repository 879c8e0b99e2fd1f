"""Screens proposed rules by their cross-fitted votes on dev."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaln

from kommuna.steps.labeling.refine.data import FOLDS, RefineData
from kommuna.steps.labeling.refine.evaluation import Evaluation
from kommuna.steps.labeling.refine.proposal import Proposal
from kommuna.steps.labeling.votes.correlation import phi_coefficient
from kommuna.steps.labeling.votes.patterns import ABSTAIN, Codes
from kommuna.steps.statistics import TagCounts, wilson

MOST_COVERAGE = 0.9  # the largest coverage of messages; above it a rule is not informative
MOST_CORRELATION = 0.9  # the largest correlation with a present rule
MOST_FALSE = 0.05  # the largest expected share of passed rules whose precision is below the threshold
_MEANS = np.linspace(0.02, 0.98, 49)[:, None]  # means of the Beta distributions to try
_ROWS = np.geomspace(0.5, 10, 25)[None]  # their a + b; on held-out rows that of mined rules was 5 to 16
_REWRITTEN = 0.5  # weight of a dev vote that was cast by another rule in the same slot
_SHRINK = 2.0  # weight of the tag's share in a rule's precision, in rows

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Candidate:
    """A proposal with its votes and figures.

    Attributes:
        proposal: the proposed rule.
        dev: d codes, its cross-fitted votes on dev (`Proposal.dev`).
        sample: s codes, its votes on the sample.
        right: the number of right votes on dev.
        cast: the number of votes on dev.
        low: the lower end of the 95 % interval of its precision.
        doubt: the probability that its precision is below the threshold.
        gain: the gain in macro F1 on dev when it was selected.
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
    """Candidates that passed, the best first, and numbers of refused ones by reason."""

    passed: list[Candidate] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)

    def refuse(self, reason: str, count: int = 1) -> None:
        """Counts refused candidates.

        Args:
            reason: why they were refused.
            count: their number.
        """
        if count:
            self.refused[reason] = self.refused.get(reason, 0) + count


def candidate_of(data: RefineData, proposal: Proposal) -> Candidate:
    """Returns a proposal with its votes as codes.

    Args:
        data: the rows and tags that rules are refined on.
        proposal: the proposal.
    """
    code = data.code(proposal.rule)
    return Candidate(proposal, codes(proposal.dev, code), codes(proposal.sample, code))


def screen(
    rows: RefineData,
    proposed: list[Candidate],
    dev: Codes,
    sample: Codes,
    evaluation: Evaluation,
    *,
    least_precision: float,
) -> Screened:
    """Selects the candidates that are precise, new and not harmful.

    Args:
        rows: the rows and tags that rules are refined on.
        proposed: the candidates, with votes on the d dev rows of `rows`.
        dev: d x m, the present rules' votes on dev.
        sample: s x m, their votes on the sample.
        evaluation: the figures of the present rules.
        least_precision: the smallest lower end of the 95 % Wilson interval of a rule's precision. The precision of a
            rule against a tag is counted on rows that were assigned the tag: it is of no use elsewhere.
    """
    screened = Screened()
    candidates: list[Candidate] = []
    for candidate in proposed:
        if float((candidate.sample != ABSTAIN).mean()) > MOST_COVERAGE:
            screened.refuse("votes on nearly every message")
        elif not (candidate.sample != ABSTAIN).any():
            screened.refuse("no vote on a message")
        else:
            candidates.append(_counted(candidate, rows, evaluation))
    judged = [candidate for candidate in candidates if candidate.cast or candidate.proposal.rewritten]
    screened.refuse("no vote on a dev row that it was not written from", len(candidates) - len(judged))
    precise = [candidate for candidate in _precise(judged, rows, evaluation) if candidate.low >= least_precision]
    screened.refuse("not surely precise", len(judged) - len(precise))
    precise.sort(key=lambda c: (-c.low * c.right, c.proposal.rule.name))
    _pick(rows, precise, _Present(dev, sample), evaluation, screened)
    return screened


def _right_and_judged(candidate: Candidate, rows: RefineData, evaluation: Evaluation) -> tuple[Mask, Mask]:
    """Returns d, whether a vote would be right on the row, and d, whether the row counts for the precision."""
    rule = candidate.proposal.rule
    tag = rows.tags.index(rule.tag or "")
    if rule.against:
        return ~rows.truth[:, tag], evaluation.assigned[:, tag]
    return rows.truth[:, tag], np.ones(len(rows.truth), dtype=np.bool_)


def _counted(candidate: Candidate, rows: RefineData, evaluation: Evaluation) -> Candidate:
    good, judged = _right_and_judged(candidate, rows, evaluation)
    votes = (candidate.dev != ABSTAIN) & judged
    right, cast = int(good[votes].sum()), int(votes.sum())
    return replace(candidate, right=right, cast=cast, low=wilson(right, cast)[0])


def _precise(candidates: list[Candidate], rows: RefineData, evaluation: Evaluation) -> list[Candidate]:
    """Returns the candidates that are likely precise, with control of the false discovery rate.

    The precisions of candidates of a kind are assumed to be drawn from one Beta distribution (`beta_prior`), which
    shrinks the precision of a lucky candidate among many. A candidate's doubt is the posterior probability that its
    precision is below a threshold: one half, or the precision of a rule that fires at random if that is higher.
    Candidates pass in the order of their doubt, as long as the expected share of passed candidates below the threshold
    is at most `MOST_FALSE` (the Bayesian false discovery rate: Efron 2010, "Large-scale inference", chapter 2).

    Votes of other rules in the same slot (`Proposal.rewritten`) count fully for the distribution of the kind, but less
    for the single rule (`_REWRITTEN`); a rule without votes has the distribution of its kind.
    """
    doubted: list[Candidate] = []
    kinds: dict[tuple[str, bool], list[Candidate]] = {}
    for candidate in candidates:
        kinds.setdefault((candidate.proposal.kind, candidate.proposal.rule.against), []).append(candidate)
    for some in kinds.values():
        right, cast = (np.array([(c.right, c.cast) for c in some if c.cast], dtype=np.int64).reshape(-1, 2)).T
        a, b = beta_prior(right, cast)
        for candidate in some:
            good, judged = _right_and_judged(candidate, rows, evaluation)
            threshold = max(0.5, float((good[judged].sum() + 1) / (judged.sum() + 2)))
            weight = _REWRITTEN if candidate.proposal.rewritten else 1.0
            yes, no = weight * candidate.right, weight * (candidate.cast - candidate.right)
            doubted.append(replace(candidate, doubt=float(betainc(a + yes, b + no, threshold))))
    doubted.sort(key=lambda c: (c.doubt, c.proposal.rule.name))
    expected = np.cumsum([c.doubt for c in doubted]) / np.arange(1, len(doubted) + 1)
    return doubted[: int((expected <= MOST_FALSE).sum())]


def beta_prior(right: NDArray[np.int64], cast: NDArray[np.int64]) -> tuple[float, float]:
    """Fits the Beta distribution of rules' precisions; returns its parameters a and b.

    The fit is by maximum likelihood of the beta-binomial counts over a grid. Two pseudo-rules, one right once and one
    wrong once, regularize it if there are few rules.

    Args:
        right: the numbers of right votes.
        cast: the numbers of votes.
    """
    r, n = (np.concatenate([counts, extra])[:, None] for counts, extra in ((right, [1, 0]), (cast, [1, 1])))
    a, b = (_MEANS * _ROWS).ravel()[None], ((1 - _MEANS) * _ROWS).ravel()[None]
    likelihood = (betaln(a + r, b + n - r) - betaln(a, b)).sum(axis=0)
    best = int(likelihood.argmax())
    return float(a[0, best]), float(b[0, best])


def codes(fired: Mask, code: int) -> Codes:
    """Returns a rule's votes as codes.

    Args:
        fired: whether the rule fires on each row.
        code: the code of its vote.
    """
    return np.where(fired, code, ABSTAIN).astype(np.int16)


class _Present:
    """The votes of present rules, to recognize copies."""

    def __init__(self, dev: Codes, sample: Codes) -> None:
        votes = np.concatenate([dev, sample])
        self._value = [int(column.max(initial=ABSTAIN)) for column in votes.T]
        self._fired: list[Mask] = [column != ABSTAIN for column in votes.T]

    def copy_of(self, candidate: Candidate) -> str:
        """Returns why the candidate is a copy of a present rule; empty if it is not."""
        votes = np.concatenate([candidate.dev, candidate.sample])
        fired, value = votes != ABSTAIN, int(votes.max())
        for other, its in zip(self._fired, self._value, strict=True):
            if its != value:
                continue
            if np.array_equal(fired, other):
                return "the same votes as a present rule"
            both, first, second = (int(some.sum()) for some in (fired & other, fired, other))
            if phi_coefficient(both, first, second, len(fired)) > MOST_CORRELATION:
                return "too correlated with a present rule"
        return ""

    def add(self, candidate: Candidate) -> None:
        votes = np.concatenate([candidate.dev, candidate.sample])
        self._fired.append(votes != ABSTAIN)
        self._value.append(int(votes.max()))


def _pick(
    rows: RefineData, candidates: list[Candidate], present: _Present, evaluation: Evaluation, screened: Screened
) -> None:
    """Selects candidates one by one, the strongest first, unless macro F1 on dev decreases.

    A candidate without a gain on dev is selected too, since it may be right on other messages.
    """
    scores = _Scores(rows, evaluation)
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
    """Estimates macro F1 on dev as rules are added to the cross-fitted predictions of the label model.

    A vote for a tag adds ``logit(p) - logit(share of the tag)`` to the tag's log-odds, p being the rule's precision on
    the other folds, shrunk to the tag's share: the naive Bayes update.
    """

    def __init__(self, rows: RefineData, evaluation: Evaluation) -> None:
        self._rows = rows
        probabilities = np.clip(evaluation.probabilities, 1e-6, 1 - 1e-6)
        self._scores: Floats = np.log(probabilities) - (np.log1p(-probabilities) if rows.multi_label else 0.0)
        self._assigned = evaluation.assigned.copy()
        self._counts = TagCounts.of(self._assigned, rows.truth)
        self._share = (rows.truth.sum(axis=0) + 1) / (len(rows.truth) + 2)

    def gain(self, candidate: Candidate) -> float:
        """Returns the gain in macro F1 if the candidate is added."""
        fired, _, assigned = self._after(candidate)
        moved = self._moved(fired, assigned)
        return float(moved.macro(moved.f1) - self._counts.macro(self._counts.f1))

    def take(self, candidate: Candidate) -> None:
        """Adds the candidate."""
        fired, scores, assigned = self._after(candidate)
        self._counts = self._moved(fired, assigned)
        self._scores[fired], self._assigned[fired] = scores, assigned

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
        assigned = self._assigned[fired].copy()
        if self._rows.multi_label:
            assigned[:, tag] = scores[:, tag] >= 0
        else:
            assigned[:] = False
            assigned[np.arange(len(fired)), scores.argmax(axis=1)] = True
        return fired, scores, assigned

    def _moved(self, fired: NDArray[np.intp], assigned: Mask) -> TagCounts:
        truth = self._rows.truth[fired]
        return self._counts + TagCounts.of(assigned, truth) - TagCounts.of(self._assigned[fired], truth)


def _logit(p: float) -> float:
    return math.log(p) - math.log1p(-p)

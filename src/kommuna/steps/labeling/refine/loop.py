"""The loop: model, errors on dev, proposals, screening, new rules, labels, model; until nothing is gained."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import structlog

from kommuna.spec.rules import Rule
from kommuna.steps.labeling.refine.data import FOLDS, RefineData
from kommuna.steps.labeling.refine.judge import Judgement, Mask, gain_error, judge
from kommuna.steps.labeling.refine.mining.screening import Candidate, Screened, candidate_of, codes, screen
from kommuna.steps.labeling.refine.proposal import Proposal, Proposals, Proposer, Standing
from kommuna.steps.labeling.refine.rounds import Changed, Round, Rounds, Written, bits
from kommuna.steps.labeling.votes.patterns import ABSTAIN, Codes
from kommuna.steps.statistics import macro_f1

log = structlog.get_logger()

_LEAST_ERRORS = 1.0  # standard errors that a round gains on dev, or it is not kept: less is chance
_HALVINGS = 3  # times that fewer candidates are tried: all, the better half, its half
_IMPLIED = 0.98  # share of an old rule's votes that a new one casts too, past which the old one is needless


@dataclass(frozen=True)
class _Rules:
    """The present rules and their votes.

    Attributes:
        given: m0, the rules that the loop started from; they stay.
        written: the loop's own.
        dev: d x (m0 + written), votes on dev, each as told without the row.
        sample: s x (m0 + written).
    """

    given: tuple[Rule, ...]
    written: tuple[Written, ...]
    dev: Codes
    sample: Codes

    @property
    def all(self) -> tuple[Rule, ...]:
        return (*self.given, *(written.rule for written in self.written))

    def changed(self, change: Changed, dev: Codes, sample: Codes) -> _Rules:
        """Without some rules, and with new ones and their votes."""
        left = [j for j, written in enumerate(self.written) if written.rule.name not in change.out]
        columns = [*range(len(self.given)), *(len(self.given) + j for j in left)]
        return _Rules(
            self.given,
            (*(self.written[j] for j in left), *change.written),
            np.concatenate([self.dev[:, columns], dev], axis=1),
            np.concatenate([self.sample[:, columns], sample], axis=1),
        )


@dataclass(frozen=True)
class _Track:
    """The loop on some of the dev rows.

    Attributes:
        data: those rows.
        rows: d, which of all dev rows they are; the others are unknown to all that the track does.
        rules: its rules. On rows that are not its own they vote like on any message.
        standing: how they do on its rows.
    """

    data: RefineData
    rows: Mask
    rules: _Rules
    standing: Judgement

    def judged(self, rules: _Rules, seed: int) -> _Track:
        """With other rules."""
        return replace(self, rules=rules, standing=judge(self.data, rules.dev[self.rows], rules.sample, seed=seed))

    def asked(self, number: int) -> Standing:
        return Standing(self.data, self.rules.all, self.standing.assigned, number)

    def screened(self, tried: Sequence[Candidate], least_precision: float) -> Screened:
        """Which candidates pass; with their votes on all rows."""
        own = [replace(candidate, dev=candidate.dev[self.rows]) for candidate in tried]
        dev = self.rules.dev[self.rows]
        screened = screen(self.data, own, dev, self.rules.sample, self.standing, least_precision=least_precision)
        whole = {candidate.proposal.rule.name: candidate.dev for candidate in tried}
        passed = [replace(one, dev=whole[one.proposal.rule.name]) for one in screened.passed]
        return replace(screened, passed=passed)

    def with_best(self, passed: Sequence[Candidate], share: float, number: int, seed: int) -> tuple[_Track, Changed]:
        """With a share of the candidates, the best."""
        best = passed[: math.ceil(len(passed) * share)]
        if not best:
            return self, Changed()
        change = Changed(written=tuple(_written(one, number) for one in best), out=_needless(self.rules, best))
        dev, sample = (np.stack(votes, axis=1) for votes in ([c.dev for c in best], [c.sample for c in best]))
        return self.judged(self.rules.changed(change, dev, sample), seed), change


def refined(
    data: RefineData,
    given: Sequence[Rule],
    proposers: Mapping[str, Proposer],
    kept: Rounds,
    *,
    votes_given: tuple[Codes, Codes],
    most_rounds: int,
    least_precision: float,
    seed: int,
) -> list[Round]:
    """Runs rounds until one gains nothing, no proposer is left, or there were `most_rounds`.

    The loop runs six times side by side: on all of dev, and without each of its folds, whose rows then judge it. The
    runs take only two things from each other: how many of the best candidates stay in a round, and when to end.

    Args:
        data: the rows.
        given: rules to start from; none at all is a start too.
        proposers: by name.
        kept: rounds of this very run that are done already; each new one is kept.
        votes_given: the given rules' votes on dev and on the sample.
        most_rounds: how many rounds there are at most.
        least_precision: see `screen`.
        seed: of the label model.

    Returns:
        Round 0, where the loop started, and every further round. Macro F1 on dev, each fold told by the run that did
        not see it, rises from each to the next; the last may have gained nothing and changed nothing.
    """
    done = kept.load()
    start = _Rules(tuple(given), (), *votes_given)
    everything = np.ones(data.dev.height, dtype=np.bool_)
    tracks = [
        _started(data, rows, start, [_change(made, fold) for made in done], seed)
        for fold, rows in [(None, everything), *((fold, data.fold != fold) for fold in range(FOLDS))]
    ]
    told = _told_apart(data, tracks)
    if done:
        log.info("refine.resumed", rounds=len(done) - 1, rules=len(tracks[0].rules.all), f1=round(done[-1].f1, 4))
    else:
        coverage = tracks[0].standing.coverage
        done = [Round(number=0, rules=len(given), f1=macro_f1(told, data.truth), coverage=coverage)]
        kept.keep(done[0])
    ended = {line.partition(":")[0] for earlier in done for line in earlier.ended}
    while len(done) <= most_rounds and not _finished(done) and set(proposers) - ended:
        asked = {name: proposer for name, proposer in proposers.items() if name not in ended}
        made, tracks, told = _round(data, tracks, told, asked, len(done), least_precision=least_precision, seed=seed)
        kept.keep(made)
        done.append(made)
        ended |= {line.partition(":")[0] for line in made.ended}
        log.info(
            "refine.round", round=made.number, proposed=made.proposed, rules_in=len(made.written),
            rules_out=len(made.out), f1=round(made.f1, 4), coverage=round(made.coverage, 4),
            seconds=round(made.seconds, 2),
        )  # fmt: skip
    return done


def _finished(done: Sequence[Round]) -> bool:
    return done[-1].number > 0 and not done[-1].written


def _change(made: Round, fold: int | None) -> Changed:
    """What a round changed, on all of dev or without a fold."""
    if fold is None:
        return made
    return made.without[fold] if made.without else Changed()


def rules_after(rounds: Sequence[Round], fold: int | None = None) -> tuple[Written, ...]:
    """The loop's own rules as they were after some rounds, on all of dev or without a fold."""
    written: tuple[Written, ...] = ()
    for made in rounds:
        change = _change(made, fold)
        written = (*(one for one in written if one.rule.name not in change.out), *change.written)
    return written


def dev_codes(data: RefineData, given: Sequence[Rule], rounds: Sequence[Round]) -> Codes:
    """d x (given + written) votes on dev, where nothing that was written or picked from a row's fold votes on the row.

    On each fold the rules of the run without it stand for those of the run on all of dev: each for the rule in its own
    slot or, where that did not stay, for the rule of the same tag that votes most alike. Given rules vote as they do.
    """
    present = rules_after(rounds)
    fired = np.stack([one.fired_rows(data.dev.height) for one in present], axis=1) if present else None
    slots = {(one.round, one.slot): j for j, one in enumerate(present)}
    votes = np.zeros((data.dev.height, len(present)), dtype=np.bool_)
    for fold in range(FOLDS):
        for other in rules_after(rounds, fold):
            its = other.fired_rows(data.dev.height)
            place = slots.get((other.round, other.slot))
            if place is None and fired is not None:
                place = _most_alike(other, its, present, fired)
            if place is not None:
                votes[:, place] |= its & (data.fold == fold)
    own = [codes(votes[:, j], data.code(one.rule)) for j, one in enumerate(present)]
    columns = [*data.votes(data.dev, given).T, *own]
    return np.stack(columns, axis=1) if columns else np.zeros((data.dev.height, 0), dtype=np.int16)


def _most_alike(other: Written, its: Mask, present: Sequence[Written], fired: Mask) -> int | None:
    """Of the rules for, or against, the same tag the one whose votes (d x m) overlap most with another's (Jaccard)."""
    same = [
        j for j, one in enumerate(present) if (one.rule.tag, one.rule.against) == (other.rule.tag, other.rule.against)
    ]
    if not same:
        return None
    both, either = (fired[:, same] & its[:, None]).sum(axis=0), (fired[:, same] | its[:, None]).sum(axis=0)
    return same[int((both / np.maximum(either, 1)).argmax())]


def _started(data: RefineData, rows: Mask, start: _Rules, changes: Sequence[Changed], seed: int) -> _Track:
    """A run after the rounds that were kept."""
    rules = start
    for change in changes:
        new = [written.rule for written in change.written]
        fired = [codes(one.fired_rows(len(rows)), data.code(one.rule)) for one in change.written]
        dev = np.stack(fired, axis=1) if fired else start.dev[:, :0]
        rules = rules.changed(change, dev, data.votes(data.sample, new))
    own = data.only(rows)
    return _Track(own, rows, rules, judge(own, rules.dev[rows], rules.sample, seed=seed))


def _told_apart(data: RefineData, tracks: Sequence[_Track]) -> Mask:
    """d x k, each fold's rows as told by the run that did not see them."""
    told = np.zeros_like(data.truth)
    for track in tracks[1:]:
        held = ~track.rows
        told[held] = track.standing.assign(track.rules.dev[held])
    return told


def _round(
    data: RefineData,
    tracks: Sequence[_Track],
    told: Mask,
    proposers: Mapping[str, Proposer],
    number: int,
    *,
    least_precision: float,
    seed: int,
) -> tuple[Round, list[_Track], Mask]:
    began = time.perf_counter()
    spent = Counter(_spent(proposers))
    whole = tracks[0]
    proposals, lasting, refused, ended = _asked(proposers, whole.asked(number))
    proposed = len(proposals) + sum(refused.values())
    again = [proposer for proposer in proposers.values() if proposer.again]
    screened = whole.screened([candidate_of(data, proposal) for proposal in proposals], least_precision)
    refused.update(screened.refused)
    passed = [screened.passed]
    for track in tracks[1:]:
        own = [proposal for proposer in again for proposal in proposer.propose(track.asked(number)).rules]
        names = {proposal.rule.name for proposal in own}
        others = [proposal for proposal in lasting if proposal.rule.name not in names]
        tried = [candidate_of(data, proposal) for proposal in (*own, *others)]
        passed.append(track.screened(tried, least_precision).passed)
    share, after, changes = _gaining(data, tracks, told, passed, number, seed)
    if share:
        told = _told_apart(data, after)
    if len(changes[0].written) < len(screened.passed):
        refused["the label model gained nothing by it"] += len(screened.passed) - len(changes[0].written)
    used = Counter(_spent(proposers))
    used.subtract(spent)
    made = Round(
        number=number,
        proposed=proposed,
        written=changes[0].written,
        out=changes[0].out,
        without=tuple(changes[1:]),
        refused=dict(refused),
        ended=tuple(ended),
        rules=len(after[0].rules.all),
        f1=macro_f1(told, data.truth),
        coverage=after[0].standing.coverage,
        cost={name: value for name, value in used.items() if value},
        seconds=time.perf_counter() - began,
    )
    return made, after, told


def _asked(
    proposers: Mapping[str, Proposer], standing: Standing
) -> tuple[list[Proposal], list[Proposal], Counter[str], list[str]]:
    """All proposals, those of proposers that are asked only once, refusals by reason, and who ended."""
    proposals: list[Proposal] = []
    lasting: list[Proposal] = []
    refused: Counter[str] = Counter()
    ended: list[str] = []
    names = {rule.name for rule in standing.rules}
    for name, proposer in proposers.items():
        answer: Proposals = proposer.propose(standing)
        for proposal in answer.rules:
            if proposal.rule.name in names:
                refused["the name of another rule"] += 1
                continue
            names.add(proposal.rule.name)
            proposals.append(proposal)
            if not proposer.again:
                lasting.append(proposal)
        refused.update(answer.refused)
        if answer.ended:
            ended.append(f"{name}: {answer.ended}")
            log.warning("refine.proposer_ended", proposer=name, why=answer.ended)
    return proposals, lasting, refused, ended


def _gaining(
    data: RefineData,
    tracks: Sequence[_Track],
    told: Mask,
    passed: Sequence[Sequence[Candidate]],
    number: int,
    seed: int,
) -> tuple[float, list[_Track], list[Changed]]:
    """The share of the best candidates by which the label model gains, and the runs with it; 0 and as they were else.

    Each fold's rows are told by the run that did not see them. If all candidates do not gain, the better half may, or
    its half. A gain within one standard error of nothing is none (the rule of Breiman et al. 1984, "Classification and
    regression trees", section 3.4.3).
    """
    share = 1.0
    for _ in range(_HALVINGS):
        apart = [track.with_best(own, share, number, seed) for track, own in zip(tracks[1:], passed[1:], strict=True)]
        after = _told_apart(data, [tracks[0], *(track for track, _ in apart)])
        gain = macro_f1(after, data.truth) - macro_f1(told, data.truth)
        if passed[0] and gain > _LEAST_ERRORS * gain_error(told, after, data.truth, seed=seed):
            made = [tracks[0].with_best(passed[0], share, number, seed), *apart]
            return share, [track for track, _ in made], [change for _, change in made]
        share /= 2
    return 0.0, list(tracks), [Changed() for _ in tracks]


def _needless(rules: _Rules, passed: Sequence[Candidate]) -> tuple[str, ...]:
    """Rules of the loop's own whose votes a new, at least as surely precise rule casts too."""
    start, out = len(rules.given), []
    for j, written in enumerate(rules.written):
        votes = np.concatenate([rules.dev[:, start + j], rules.sample[:, start + j]])
        fired = votes != ABSTAIN
        for candidate in passed:
            its = np.concatenate([candidate.dev, candidate.sample])
            same = (its[fired] == votes[fired]).sum()
            if candidate.low >= written.low and same >= _IMPLIED * fired.sum():
                out.append(written.rule.name)
                break
    return tuple(out)


def _written(candidate: Candidate, number: int) -> Written:
    proposal = candidate.proposal
    return Written(
        rule=proposal.rule,
        origin=proposal.origin,
        round=number,
        right=candidate.right,
        cast=candidate.cast,
        low=candidate.low,
        gain=candidate.gain,
        slot=proposal.slot,
        fired=bits(candidate.dev != ABSTAIN),
    )


_ADDITIVE = ("llm_requests", "llm_tokens_in", "llm_tokens_out", "llm_cost")


def _spent(proposers: Mapping[str, Proposer]) -> dict[str, float]:
    spent: Counter[str] = Counter()
    for proposer in proposers.values():
        spent.update({name: value for name, value in proposer.cost().items() if name in _ADDITIVE})
    return dict(spent)

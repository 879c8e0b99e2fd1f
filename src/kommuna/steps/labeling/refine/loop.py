"""The loop of a refinement: fit the label model, find errors on dev, propose rules, screen them, and repeat."""

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
from kommuna.steps.labeling.refine.evaluation import Evaluation, Mask, evaluate, gain_error
from kommuna.steps.labeling.refine.mining.screening import Candidate, Screened, candidate_of, codes, screen
from kommuna.steps.labeling.refine.proposal import LoopState, Proposal, Proposals, Proposer
from kommuna.steps.labeling.refine.rounds import Round, Rounds, RuleChanges, WrittenRule, bits, rows_of
from kommuna.steps.labeling.votes.patterns import ABSTAIN, Codes
from kommuna.steps.statistics import macro_f1

log = structlog.get_logger()

_LEAST_ERRORS = 1.0  # the smallest gain of a round on dev in standard errors; a smaller gain may be random
_HALVINGS = 3  # numbers of candidates to try: all, the better half, the better quarter
_IMPLIED = 0.98  # an old rule is redundant if a new rule casts at least this share of its votes


@dataclass(frozen=True)
class _Rules:
    """The present rules and their votes.

    Attributes:
        given: m0, the rules that the loop started from, which are never removed.
        written: the rules that the loop wrote.
        dev: d x (m0 + written), votes on dev, cross-fitted.
        sample: s x (m0 + written), votes on the sample.
    """

    given: tuple[Rule, ...]
    written: tuple[WrittenRule, ...]
    dev: Codes
    sample: Codes

    @property
    def all(self) -> tuple[Rule, ...]:
        return (*self.given, *(written.rule for written in self.written))

    def changed(self, change: RuleChanges, dev: Codes, sample: Codes) -> _Rules:
        """Returns the rules after a change, with the votes of the new rules."""
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
    """A run of the loop that uses some of the dev rows and has no information on the others.

    Attributes:
        data: the dev rows of the run.
        rows: d, whether the run uses the row.
        rules: its rules, with votes on all dev rows.
        evaluation: the figures of the rules on the run's rows.
    """

    data: RefineData
    rows: Mask
    rules: _Rules
    evaluation: Evaluation

    def with_rules(self, rules: _Rules, seed: int) -> _Track:
        """Returns the run with other rules, evaluated."""
        return replace(self, rules=rules, evaluation=evaluate(self.data, rules.dev[self.rows], rules.sample, seed=seed))

    def state(self, number: int, shown: Mask) -> LoopState:
        return LoopState(self.data, self.rules.all, self.evaluation.assigned, number, shown[self.rows])

    def screened(self, tried: Sequence[Candidate], least_precision: float) -> Screened:
        """Returns the candidates that pass, with their votes on all dev rows."""
        own = [replace(candidate, dev=candidate.dev[self.rows]) for candidate in tried]
        dev = self.rules.dev[self.rows]
        screened = screen(self.data, own, dev, self.rules.sample, self.evaluation, least_precision=least_precision)
        whole = {candidate.proposal.rule.name: candidate.dev for candidate in tried}
        passed = [replace(one, dev=whole[one.proposal.rule.name]) for one in screened.passed]
        return replace(screened, passed=passed)

    def with_best(
        self, passed: Sequence[Candidate], share: float, number: int, seed: int
    ) -> tuple[_Track, RuleChanges]:
        """Returns the run with the best share of the candidates added, and the changes."""
        best = passed[: math.ceil(len(passed) * share)]
        if not best:
            return self, RuleChanges()
        change = RuleChanges(written=tuple(_written(one, number) for one in best), out=_redundant(self.rules, best))
        dev, sample = (np.stack(votes, axis=1) for votes in ([c.dev for c in best], [c.sample for c in best]))
        return self.with_rules(self.rules.changed(change, dev, sample), seed), change


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
    """Runs rounds until a round gains nothing, all proposers have ended, or `most_rounds` is reached.

    The loop runs on all of dev and, in parallel, without each of its folds, whose rows evaluate that run. The runs
    share only two decisions: the share of the best candidates to keep in a round, and when to end.

    Args:
        data: the rows.
        given: rules to start from; may be empty.
        proposers: the proposers by name.
        kept: the stored rounds of the same run; each new round is stored there.
        votes_given: the given rules' votes on dev and on the sample.
        most_rounds: the largest number of rounds.
        least_precision: see `screen`.
        seed: seed of the label model.

    Returns:
        Round 0 (the start) and all further rounds. Cross-fitted macro F1 on dev rises from round to round, except for
        the last round, which may have changed nothing.
    """
    done = kept.load()
    start = _Rules(tuple(given), (), *votes_given)
    everything = np.ones(data.dev.height, dtype=np.bool_)
    tracks = [
        _started(data, rows, start, [_change(made, fold) for made in done], seed)
        for fold, rows in [(None, everything), *((fold, data.fold != fold) for fold in range(FOLDS))]
    ]
    assigned = _cross_fitted(data, tracks)
    if done:
        log.info("refine.resumed", rounds=len(done) - 1, rules=len(tracks[0].rules.all), f1=round(done[-1].f1, 4))
    else:
        coverage = tracks[0].evaluation.coverage
        done = [Round(number=0, rules=len(given), f1=macro_f1(assigned, data.truth), coverage=coverage)]
        kept.save(done[0])
    ended = {line.partition(":")[0] for earlier in done for line in earlier.ended}
    while len(done) <= most_rounds and not _finished(done) and set(proposers) - ended:
        active = {name: proposer for name, proposer in proposers.items() if name not in ended}
        made, tracks, assigned = _round(
            data, tracks, assigned, active, done, least_precision=least_precision, seed=seed
        )
        kept.save(made)
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


def _change(made: Round, fold: int | None) -> RuleChanges:
    """Returns the changes of a round in the run on all of dev, or in the run without a fold."""
    if fold is None:
        return made
    return made.without[fold] if made.without else RuleChanges()


def rules_after(rounds: Sequence[Round], fold: int | None = None) -> tuple[WrittenRule, ...]:
    """Returns the rules that the loop wrote and kept in some rounds.

    Args:
        rounds: the rounds.
        fold: the fold that the run left out; None: the run on all of dev.
    """
    written: tuple[WrittenRule, ...] = ()
    for made in rounds:
        change = _change(made, fold)
        written = (*(one for one in written if one.rule.name not in change.out), *change.written)
    return written


def dev_codes(data: RefineData, given: Sequence[Rule], rounds: Sequence[Round]) -> Codes:
    """Returns cross-fitted votes on dev: d x (given + written).

    The votes of written rules on a fold are those of the run without the fold. Each rule of that run represents the
    rule with the same slot in the run on all of dev or, if there is none, the most similar rule for the same tag.

    Args:
        data: the rows.
        given: the rules that the loop started from; their votes are their own.
        rounds: the rounds.
    """
    present = rules_after(rounds)
    fired = np.stack([one.fired_rows(data.dev.height) for one in present], axis=1) if present else None
    slots = {(one.round, one.slot): j for j, one in enumerate(present)}
    votes = np.zeros((data.dev.height, len(present)), dtype=np.bool_)
    for fold in range(FOLDS):
        for other in rules_after(rounds, fold):
            its = other.fired_rows(data.dev.height)
            column = slots.get((other.round, other.slot))
            if column is None and fired is not None:
                column = _most_similar(other, its, present, fired)
            if column is not None:
                votes[:, column] |= its & (data.fold == fold)
    own = [codes(votes[:, j], data.code(one.rule)) for j, one in enumerate(present)]
    columns = [*data.votes(data.dev, given).T, *own]
    return np.stack(columns, axis=1) if columns else np.zeros((data.dev.height, 0), dtype=np.int16)


def _most_similar(other: WrittenRule, its: Mask, present: Sequence[WrittenRule], fired: Mask) -> int | None:
    """Returns the index of the present rule for (or against) the same tag with the largest Jaccard index of votes."""
    same = [
        j for j, one in enumerate(present) if (one.rule.tag, one.rule.against) == (other.rule.tag, other.rule.against)
    ]
    if not same:
        return None
    both, either = (fired[:, same] & its[:, None]).sum(axis=0), (fired[:, same] | its[:, None]).sum(axis=0)
    return same[int((both / np.maximum(either, 1)).argmax())]


def _started(data: RefineData, rows: Mask, start: _Rules, changes: Sequence[RuleChanges], seed: int) -> _Track:
    """Starts a run, after the changes of stored rounds."""
    rules = start
    for change in changes:
        new = [written.rule for written in change.written]
        fired = [codes(one.fired_rows(len(rows)), data.code(one.rule)) for one in change.written]
        dev = np.stack(fired, axis=1) if fired else start.dev[:, :0]
        rules = rules.changed(change, dev, data.votes(data.sample, new))
    own = data.only(rows)
    return _Track(own, rows, rules, evaluate(own, rules.dev[rows], rules.sample, seed=seed))


def _cross_fitted(data: RefineData, tracks: Sequence[_Track]) -> Mask:
    """Returns d x k, the tags assigned to each fold's rows by the run without the fold."""
    assigned = np.zeros_like(data.truth)
    for track in tracks[1:]:
        held = ~track.rows
        assigned[held] = track.evaluation.assign(track.rules.dev[held])
    return assigned


def _round(
    data: RefineData,
    tracks: Sequence[_Track],
    assigned: Mask,
    proposers: Mapping[str, Proposer],
    done: Sequence[Round],
    *,
    least_precision: float,
    seed: int,
) -> tuple[Round, list[_Track], Mask]:
    began = time.perf_counter()
    number, shown = len(done), rows_of(done[-1].shown, data.dev.height)
    spent = Counter(_spent(proposers))
    whole = tracks[0]
    proposals, shared, refused, ended, shown = _proposals(proposers, whole.state(number, shown))
    proposed = len(proposals) + sum(refused.values())
    rewriting = [proposer for proposer in proposers.values() if proposer.rewrites_per_fold]
    screened = whole.screened([candidate_of(data, proposal) for proposal in proposals], least_precision)
    refused.update(screened.refused)
    passed = [screened.passed]
    for track in tracks[1:]:
        own = [proposal for proposer in rewriting for proposal in proposer.propose(track.state(number, shown)).rules]
        names = {proposal.rule.name for proposal in own}
        others = [proposal for proposal in shared if proposal.rule.name not in names]
        tried = [candidate_of(data, proposal) for proposal in (*own, *others)]
        passed.append(track.screened(tried, least_precision).passed)
    share, after, changes = _gaining(data, tracks, assigned, passed, number, seed)
    if share:
        assigned = _cross_fitted(data, after)
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
        shown=bits(shown) if shown.any() else "",
        ended=tuple(ended),
        rules=len(after[0].rules.all),
        f1=macro_f1(assigned, data.truth),
        coverage=after[0].evaluation.coverage,
        cost={name: value for name, value in used.items() if value},
        seconds=time.perf_counter() - began,
    )
    return made, after, assigned


def _proposals(
    proposers: Mapping[str, Proposer], state: LoopState
) -> tuple[list[Proposal], list[Proposal], Counter[str], list[str], Mask]:
    """Asks the proposers.

    Returns:
        All proposals, those that all runs share, numbers of refusals by reason, proposers that ended, and the rows that
        prompts have shown so far.
    """
    proposals: list[Proposal] = []
    shared: list[Proposal] = []
    refused: Counter[str] = Counter()
    ended: list[str] = []
    shown = state.shown
    names = {rule.name for rule in state.rules}
    for name, proposer in proposers.items():
        answer: Proposals = proposer.propose(state)
        shown = shown if answer.shown is None else shown | answer.shown
        for proposal in answer.rules:
            if proposal.rule.name in names:
                refused["the name of another rule"] += 1
                continue
            names.add(proposal.rule.name)
            proposals.append(proposal)
            if not proposer.rewrites_per_fold:
                shared.append(proposal)
        refused.update(answer.refused)
        if answer.ended:
            ended.append(f"{name}: {answer.ended}")
            log.warning("refine.proposer_ended", proposer=name, why=answer.ended)
    return proposals, shared, refused, ended, shown


def _gaining(
    data: RefineData,
    tracks: Sequence[_Track],
    assigned: Mask,
    passed: Sequence[Sequence[Candidate]],
    number: int,
    seed: int,
) -> tuple[float, list[_Track], list[RuleChanges]]:
    """Finds a share of the best candidates that improves cross-fitted macro F1 on dev.

    All candidates are tried first, then the better half and the better quarter. A gain of at most one standard error
    does not count (the one-standard-error rule of Breiman et al. 1984, "Classification and regression trees", section
    3.4.3).

    Returns:
        The share, the runs with these candidates, and their changes; 0, the unchanged runs and no changes if nothing
        improves.
    """
    share = 1.0
    for _ in range(_HALVINGS):
        held_out = [
            track.with_best(own, share, number, seed) for track, own in zip(tracks[1:], passed[1:], strict=True)
        ]
        after = _cross_fitted(data, [tracks[0], *(track for track, _ in held_out)])
        gain = macro_f1(after, data.truth) - macro_f1(assigned, data.truth)
        if passed[0] and gain > _LEAST_ERRORS * gain_error(assigned, after, data.truth, seed=seed):
            made = [tracks[0].with_best(passed[0], share, number, seed), *held_out]
            return share, [track for track, _ in made], [change for _, change in made]
        share /= 2
    return 0.0, list(tracks), [RuleChanges() for _ in tracks]


def _redundant(rules: _Rules, passed: Sequence[Candidate]) -> tuple[str, ...]:
    """Returns the written rules whose votes are also cast by a new rule with the same or a higher `low`."""
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


def _written(candidate: Candidate, number: int) -> WrittenRule:
    proposal = candidate.proposal
    return WrittenRule(
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

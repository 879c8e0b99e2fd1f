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
from kommuna.steps.labeling.patterns import ABSTAIN, Codes
from kommuna.steps.labeling.refine.field import FOLDS, Field
from kommuna.steps.labeling.refine.judge import Judgement, gain_error, judge, macro_f1, told_by
from kommuna.steps.labeling.refine.proposal import Proposal, Proposals, Proposer, Standing
from kommuna.steps.labeling.refine.rounds import Round, Rounds, Written, bits
from kommuna.steps.labeling.refine.screening import Candidate, Votes, screen

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
        dev: d x (m0 + written), votes on dev; abstains on rows that a rule was written from.
        sample: s x (m0 + written).
    """

    given: tuple[Rule, ...]
    written: tuple[Written, ...]
    dev: Codes
    sample: Codes

    @property
    def all(self) -> tuple[Rule, ...]:
        return (*self.given, *(written.rule for written in self.written))

    def changed(self, out: Sequence[str], new: Sequence[Written], dev: Codes, sample: Codes) -> _Rules:
        """Without some rules, and with new ones and their votes."""
        left = [j for j, written in enumerate(self.written) if written.rule.name not in out]
        columns = [*range(len(self.given)), *(len(self.given) + j for j in left)]
        return _Rules(
            self.given,
            (*(self.written[j] for j in left), *new),
            np.concatenate([self.dev[:, columns], dev], axis=1),
            np.concatenate([self.sample[:, columns], sample], axis=1),
        )


def refined(
    field: Field,
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

    Args:
        field: the rows.
        given: rules to start from; none at all is a start too.
        proposers: by name.
        kept: rounds of this very run that are done already; each new one is kept.
        votes_given: the given rules' votes on dev and on the sample.
        least_precision: see `screen`.
        seed: of the label model.
    Returns:
        Round 0, where the loop started, and every further round. Macro F1 on dev rises from each to the next, by the
        gain that cross-validation of writing, picking and model together gives the round; the last may have gained
        nothing and changed nothing.
    """
    done = kept.load()
    rules = _Rules(tuple(given), (), *votes_given)
    for earlier in done:
        rules = _replayed(rules, earlier, field)
    if done:
        log.info("refine.resumed", rounds=len(done) - 1, rules=len(rules.all), f1=round(done[-1].f1, 4))
    standing = judge(field, rules.dev, rules.sample, seed=seed)
    if not done:
        done = [Round(number=0, rules=len(rules.all), f1=standing.f1, coverage=standing.coverage)]
        kept.keep(done[0])
    ended = {line.partition(":")[0] for earlier in done for line in earlier.ended}
    while len(done) <= most_rounds and not _finished(done) and set(proposers) - ended:
        asked = {name: proposer for name, proposer in proposers.items() if name not in ended}
        made, rules, standing = _round(
            field, rules, standing, asked, len(done), done[-1].f1, least_precision=least_precision, seed=seed
        )
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


def rules_after(given: Sequence[Rule], rounds: Sequence[Round]) -> tuple[tuple[Rule, ...], tuple[Written, ...]]:
    """The given rules and the loop's own, as they were after some rounds."""
    written: tuple[Written, ...] = ()
    for made in rounds:
        written = (*(one for one in written if one.rule.name not in made.out), *made.written)
    return tuple(given), written


def _replayed(rules: _Rules, made: Round, field: Field) -> _Rules:
    """The rules after a round that was kept."""
    new = [written.rule for written in made.written]
    unseen = [written.unseen_rows(field.dev.height) for written in made.written]
    dev = field.votes(field.dev, new)
    if new:
        dev = np.where(np.stack(unseen, axis=1), dev, ABSTAIN).astype(np.int16)
    return rules.changed(made.out, made.written, dev, field.votes(field.sample, new))


def _round(
    field: Field,
    rules: _Rules,
    standing: Judgement,
    proposers: Mapping[str, Proposer],
    number: int,
    f1: float,
    *,
    least_precision: float,
    seed: int,
) -> tuple[Round, _Rules, Judgement]:
    began = time.perf_counter()
    spent = Counter(_spent(proposers))
    asked, votes = Standing(field, rules.all, standing.told, number), Votes(field)
    proposals, lasting, refused, ended = _asked(proposers, asked)
    screened = screen(
        field, votes.candidates(proposals), rules.dev, rules.sample, standing, least_precision=least_precision
    )
    again = [proposer for proposer in proposers.values() if proposer.again]
    without: list[list[Candidate]] = []
    for fold in range(FOLDS):
        blind = votes.candidates(_written_without(asked, fold, again, lasting))
        without.append(_passed_without(field, blind, rules, standing, fold, least_precision))
    proposed = len(proposals) + sum(refused.values())
    refused.update(screened.refused)
    share, gain = _gaining(field, rules, standing, without, seed)
    passed = screened.passed[: _part(screened.passed, share)]
    picked = tuple(_written(candidate, number) for candidate in passed)
    out = _needless(rules, passed)
    after = rules.changed(out, picked, *_votes(passed, rules)) if passed else rules
    judgement = judge(field, after.dev, after.sample, seed=seed) if passed else standing
    if len(picked) < len(screened.passed):
        refused["the label model gained nothing by it"] += len(screened.passed) - len(picked)
    used = Counter(_spent(proposers))
    used.subtract(spent)
    made = Round(
        number=number,
        proposed=proposed,
        written=picked,
        out=out,
        refused=dict(refused),
        ended=tuple(ended),
        rules=len(after.all),
        f1=f1 + gain if picked else f1,
        coverage=judgement.coverage,
        cost={name: value for name, value in used.items() if value},
        seconds=time.perf_counter() - began,
    )
    return made, after, judgement


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


def _written_without(
    standing: Standing, fold: int, again: Sequence[Proposer], lasting: Sequence[Proposal]
) -> list[Proposal]:
    """What is proposed where a fold of dev is not there: its rows judge what nobody wrote from them."""
    rest = standing.field.fold != fold
    proposals = {proposal.rule.name: proposal for proposal in lasting}
    for proposer in again:
        for proposal in proposer.propose(standing.only(rest)).rules:
            unseen = np.ones(len(rest), dtype=np.bool_)
            unseen[rest] = proposal.unseen
            proposals.setdefault(proposal.rule.name, replace(proposal, unseen=unseen))
    return list(proposals.values())


def _passed_without(
    field: Field, tried: Sequence[Candidate], rules: _Rules, standing: Judgement, fold: int, least_precision: float
) -> list[Candidate]:
    """Which of the candidates pass where a fold of dev is not there; with their votes on all rows."""
    rest = field.fold != fold
    blind = [replace(candidate, dev=candidate.dev[rest]) for candidate in tried]
    screened = screen(
        field.only(rest), blind, rules.dev[rest], rules.sample, standing.only(rest), least_precision=least_precision
    )
    whole = {candidate.proposal.rule.name: candidate for candidate in tried}
    return [replace(passed, dev=whole[passed.proposal.rule.name].dev) for passed in screened.passed]


def _gaining(
    field: Field, rules: _Rules, standing: Judgement, without: Sequence[Sequence[Candidate]], seed: int
) -> tuple[float, float]:
    """The share of the best candidates by which the label model gains, and its gain in macro F1; 0, 0 if none does.

    All of it is cross-validated: rows of a fold are told by candidates that were written and picked without the fold
    and by a model that was fitted without it. If all candidates do not gain, the better half may, or its half. A gain
    within one standard error of nothing is none (the rule of Breiman et al. 1984, "Classification and regression
    trees", section 3.4.3).
    """
    share = 1.0
    for _ in range(_HALVINGS):
        told = np.zeros_like(field.truth)
        for fold, passed in enumerate(without):
            best = passed[: _part(passed, share)]
            after = rules.changed(_needless(rules, best), (), *_votes(best, rules))
            held = field.fold == fold
            told[held] = told_by(field.only(~held), after.dev[~held], after.sample, after.dev[held], seed=seed)
        gain = macro_f1(told, field.truth) - macro_f1(standing.told, field.truth)
        if gain > _LEAST_ERRORS * gain_error(standing.told, told, field.truth, seed=seed):
            return share, gain
        share /= 2
    return 0.0, 0.0


def _part(passed: Sequence[Candidate], share: float) -> int:
    return math.ceil(len(passed) * share)


def _votes(passed: Sequence[Candidate], rules: _Rules) -> tuple[Codes, Codes]:
    """The candidates' votes on dev and on the sample, a column each."""
    if not passed:
        return rules.dev[:, :0], rules.sample[:, :0]
    return np.stack([c.dev for c in passed], axis=1), np.stack([c.sample for c in passed], axis=1)


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
        unseen=bits(proposal.unseen),
    )


_ADDITIVE = ("llm_requests", "llm_tokens_in", "llm_tokens_out", "llm_cost")


def _spent(proposers: Mapping[str, Proposer]) -> dict[str, float]:
    spent: Counter[str] = Counter()
    for proposer in proposers.values():
        spent.update({name: value for name, value in proposer.cost().items() if name in _ADDITIVE})
    return dict(spent)

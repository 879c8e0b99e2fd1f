"""Step: writes rules that correct the label model's errors on dev, by a miner, an LLM, or both."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import polars as pl
import pydantic
import structlog
from numpy.typing import NDArray

from kommuna.errors import DataError, SpecError
from kommuna.spec.artifacts import Report
from kommuna.spec.choices import Seed, Share
from kommuna.spec.llm import Budget
from kommuna.spec.rules import Rule, RuleSet
from kommuna.spec.step import ALONE, StepContext
from kommuna.steps.frames import takes_frames
from kommuna.steps.labeling.refine.data import RefineData, read_refine_data
from kommuna.steps.labeling.refine.gold import gold_f1, read_gold
from kommuna.steps.labeling.refine.llm import LlmProposer
from kommuna.steps.labeling.refine.loop import dev_codes, refined, rules_after
from kommuna.steps.labeling.refine.mining.miner import Miner
from kommuna.steps.labeling.refine.mining.phrases import find_phrases
from kommuna.steps.labeling.refine.proposal import Proposer
from kommuna.steps.labeling.refine.report import refine_report, rounds_table
from kommuna.steps.labeling.refine.rounds import Round, Rounds
from kommuna.steps.labeling.refine.rules_file import RulesFile, rules_file
from kommuna.steps.labeling.votes.patterns import ABSTAIN
from kommuna.steps.llm.client import Llm, Model
from kommuna.steps.llm.ledger import Billed

log = structlog.get_logger()

NO_LLM = Llm()
NO_ROUNDS = Rounds()
NO_LIMIT = Budget()

ProposerName = Literal["miner", "llm"]


class Refined(NamedTuple):
    """The outputs of `refine_rules`."""

    rules: RulesFile
    report: Report
    rounds: pl.DataFrame
    dev_votes: pl.DataFrame
    metrics: dict[str, float]


@takes_frames
def refine_rules(
    messages: pl.LazyFrame,
    dev: pl.LazyFrame,
    rules: RuleSet | None = None,
    gold: pl.LazyFrame | None = None,
    *,
    proposers: Sequence[ProposerName] = ("miner",),
    rounds: Annotated[int, pydantic.Field(ge=0)] = 10,
    least_precision: Share = 0.0,
    budget: Budget = NO_LIMIT,
    model: str = "",
    multi_label: bool = False,
    key: str = "id",
    text: str = "text",
    label: str = "tag",
    seed: Seed = 0,
    llm: Llm = NO_LLM,
    kept: Rounds = NO_ROUNDS,
    context: StepContext = ALONE,
) -> Refined:
    """Writes rules in rounds until a round gains nothing; docs/refine.md explains the method.

    Args:
        messages: unlabeled messages: `key` and `text`.
        dev: labeled messages: `key`, `text` and `label`. Rules are written from some of them and evaluated on others.
        rules: rules to start from, which are never removed. None: the loop starts without rules, with the tags of dev.
        gold: labeled messages to report on, none of them in dev. They are checked before the loop and used after it.
            Without `rules`, gold rows with tags that dev lacks count as wrong.
        proposers: `miner` (words that are typical of the errors), `llm` (the platform's heavy model).
        rounds: the largest number of rounds.
        least_precision: 0 to 1; the smallest lower end of the 95 % interval of a new rule's precision.
        budget: the most that the LLMs may use together, for proposals and for the questions of `ask` rules, including
            killed runs. When it is spent, `ask` rules abstain, and the rounds so far are kept.
        model: the heavy model's name, for the cache key and the manifest; operators fill it in.
        multi_label: whether a row may have several tags, if `rules` are not given.
        key: the column that names a row.
        text: the column with the message.
        label: the column of `dev` and `gold` with the true tag; where rows may have several tags, a list, or a String
            with `|` as separator.
        seed: seed of the folds, the sample of messages, the label model, and the rows that the LLM receives.
        llm: the platform's models.
        kept: where rounds are stored, so that a killed run can be resumed.
        context: the team and the key of the run.

    Returns:
        rules: a rules file for people, and for `apply_rules`.
        report: an HTML page that needs no network.
        rounds: one row per round (`rounds_table`).
        dev_votes: the rules' votes on dev for `label_messages` and `rule_report`, in the form of `apply_rules`. The
            votes on a row are those of rules that were written and selected without its fold, so that dev rows can
            evaluate the rules without bias.
        metrics: rounds, rules, rules_written, dev_f1_start, dev_f1 (macro, cross-fitted), coverage; with gold
            gold_f1_start, gold_f1; with LLMs llm_requests, llm_tokens_in, llm_tokens_out, llm_cost, and the
            part of `ask` rules in it: ask_requests, ask_tokens, ask_cost, ask_unasked.

    Raises:
        DataError: there are too few dev rows or no messages, or the loop started without rules and found none.
        MissingColumn, SchemaDrift, DuplicateKeys, RulesError: a table or a label is invalid.
        TeamBudgetSpent: the team's budget of the month or of the run leaves less than `budget`, or is spent; the rounds
            so far are kept.
        LlmSettings, LlmUnreachable: the LLM is not configured, or does not answer; the rounds so far are kept.
        SpecError: `proposers` is empty.
    """
    began = time.perf_counter()
    if not proposers:
        raise SpecError("the list of proposers is empty: no rules would be written", fix="use miner, llm or both")
    data = read_refine_data(
        messages, dev, rules, multi_label=multi_label, key=key, text=text, label=label, seed=seed, llm=llm
    )
    held = read_gold(data, gold, label=label, more_tags=rules is None) if gold is not None else None
    given = rules.rules if rules is not None else ()
    heavy = llm.heavy(budget) if "llm" in proposers else None
    if heavy:
        left = heavy.spending.budget_left  # the loop may use all of it
        llm.allowance.require(Billed(prompt_tokens=left.tokens or 0, money=left.money or 0.0))
    data.asked.limit(_left(budget, heavy.spending.total if heavy else Billed()))
    votes_given = (data.votes(data.dev, given), data.votes(data.sample, given))
    if heavy:
        heavy.spending.budget = _left(budget, data.asked.billed)
    history = kept.of(_work(context.key, votes_given))
    made = refined(
        data,
        given,
        {name: _proposer(name, data, heavy, history, seed) for name in proposers},
        history,
        votes_given=votes_given,
        most_rounds=rounds,
        least_precision=least_precision,
        seed=seed,
    )
    written = rules_after(made)
    if not given and not written:
        tried = f"{sum(r.proposed for r in made)} were tried"
        raise DataError(
            f"no rule improves macro F1 on dev: {tried}{_in_words(_billed(data, heavy))}",
            where=f"dev: {data.dev.height} rows, {len(data.tags)} tags",
            fix="label more rows, ten or more per tag; or pass rules to start from",
        )
    data.asked.limit(_left(budget, heavy.spending.total if heavy else Billed()))
    gold_scores = gold_f1(data, given, made, held, seed=seed) if held is not None else None
    rule_set = data.rule_set([*given, *(one.rule for one in written)])
    coverage = _coverage(data, rule_set.rules)
    file = rules_file(rule_set, written, coverage, about=_about(data, made, gold_scores))
    billed = _billed(data, heavy)
    metrics = _metrics(made, len(written), gold_scores) | _usage(billed) | data.asked.metrics()
    metrics |= llm.allowance.metrics() if billed else {}
    log.info(
        "rules.refined", rounds=len(made) - 1, rules=len(rule_set.rules), written=len(written),
        dev_f1=round(made[-1].f1, 4), seconds=round(time.perf_counter() - began, 2),
    )  # fmt: skip
    report = refine_report(made, written, coverage, gold_scores, cost=billed.money if billed else 0.0)
    dev_votes = data.votes_table(rule_set.rules, dev_codes(data, given, made))
    return Refined(file, report, rounds_table(made, gold_scores), dev_votes, metrics)


def _proposer(name: ProposerName, data: RefineData, heavy: Model | None, history: Rounds, seed: int) -> Proposer:
    if name == "miner" or heavy is None:
        found = find_phrases(data.dev[data.text], data.sample[data.text], data.messages, data.text)
        return Miner(data, found)
    return LlmProposer(heavy, seed=seed, kept=history)


def _work(key: str, votes: Sequence[NDArray[Any]]) -> str:
    """Identifies a run to resume: the same key, and the same votes of the rules that it starts from."""
    digest = hashlib.sha256(key.encode())
    for table in votes:
        digest.update(np.ascontiguousarray(table).tobytes())
    return digest.hexdigest() if key else ""


def _left(budget: Budget, billed: Billed) -> Budget:
    """Returns what the other model of the step has left of the budget."""
    return Budget(
        tokens=None if budget.tokens is None else max(budget.tokens - billed.tokens, 0),
        money=None if budget.money is None else max(budget.money - billed.money, 0.0),
    )


def _billed(data: RefineData, heavy: Model | None) -> Billed | None:
    """Returns what the LLMs were billed, over all attempts; None if the step uses none."""
    if heavy is None and not data.asked.metrics():
        return None
    return data.asked.billed + (heavy.spending.total if heavy else Billed())


def _usage(billed: Billed | None) -> dict[str, float]:
    if billed is None:
        return {}
    return {
        "llm_requests": float(billed.requests),
        "llm_tokens_in": float(billed.prompt_tokens),
        "llm_tokens_out": float(billed.completion_tokens),
        "llm_cost": billed.money,
    }


def _in_words(billed: Billed | None) -> str:
    if billed is None:
        return ""
    return f"; LLM requests: {billed.requests}, tokens: {billed.tokens:,}, cost: {billed.money:.2f}"


def _coverage(data: RefineData, rules: Sequence[Rule]) -> dict[str, float]:
    shares = (data.votes(data.sample, rules) != ABSTAIN).mean(axis=0)
    return {rule.name: float(share) for rule, share in zip(rules, np.atleast_1d(shares), strict=True)}


def _metrics(made: Sequence[Round], written: int, gold: Sequence[float] | None) -> dict[str, float]:
    metrics = {
        "rounds": float(len(made) - 1),
        "rules": float(made[-1].rules),
        "rules_written": float(written),
        "dev_f1_start": made[0].f1,
        "dev_f1": made[-1].f1,
        "coverage": made[-1].coverage,
    }
    if gold:
        metrics |= {"gold_f1_start": gold[0], "gold_f1": gold[-1]}
    return metrics


def _about(data: RefineData, made: Sequence[Round], gold: Sequence[float] | None) -> list[str]:
    lines = [
        f"Refined in {len(made) - 1} round(s). Macro F1 on {data.dev.height:,} dev rows, cross-fitted: "
        f"{made[0].f1:.3f} at the start, {made[-1].f1:.3f} now.",
        f"The rules vote on {made[-1].coverage:.1%} of {data.sample.height:,} messages.",
    ]
    if gold:
        lines.append(f"Macro F1 on gold, by the label model alone: {gold[0]:.3f} at the start, {gold[-1]:.3f} now.")
    return [*lines, "Edit freely: names, words and order are yours. `F1 +` is what a rule added when it was picked."]

"""Step: applies labeling rules to messages and returns their votes."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import structlog

from kommuna.errors import RulesError
from kommuna.spec.llm import Asking
from kommuna.spec.rules import RegexRule, Rule, RuleSet
from kommuna.steps.columns import require_columns, require_text, require_unique
from kommuna.steps.frames import takes_frames
from kommuna.steps.labeling.rules.ask.questions import no_questions
from kommuna.steps.labeling.rules.ask.votes import AskVotes, ask_votes
from kommuna.steps.labeling.rules.expressions import computed, condition_of
from kommuna.steps.labeling.rules.text.regex import python_only
from kommuna.steps.labeling.rules.text.search import text_hits
from kommuna.steps.labeling.votes.agreement import Agreement, agreement_of_cast
from kommuna.steps.labeling.votes.grades import confidence_column
from kommuna.steps.labeling.votes.patterns import vote_meaning
from kommuna.steps.llm.client import Llm

log = structlog.get_logger()

NO_LLM = Llm()
ASKING = Asking()
ROW_GROUP = 50_000  # rows whose votes are in memory uncompressed
_HITS = "_text_hits"
_HIT = "_hit:"
_OUTSIDE = "_outside:"
_ASK = "_ask:"


class Applied(NamedTuple):
    """The outputs of `apply_rules`."""

    votes: pl.LazyFrame
    questions: pl.DataFrame
    metrics: dict[str, float]


@takes_frames
def apply_rules(
    messages: pl.LazyFrame,
    rules: RuleSet,
    *,
    llm: Llm = NO_LLM,
    asking: Asking = ASKING,
    key: str = "id",
    text: str = "text",
) -> Applied:
    """Applies every rule to every message, in one streaming pass.

    In memory are a batch of messages, and the votes as a compressed Parquet file of a few bytes per row.

    Args:
        messages: one row per message: `key`, `text`, and the columns that SQL and Python rules read.
        rules: the rule set; docs/rules.md defines each kind of rule.
        llm: answers the questions of `ask` rules.
        asking: settings of `ask` rules, such as the budget and the share of answers that may fail.
        key: the column that names a row; unique, not null.
        text: the String column that `any`, `regex` and `ask` rules read; they abstain where it is null.

    Returns:
        votes: `key`, then one column per rule, in the messages' order: `pl.Enum(rules.categories)`, or Int8 1/0 where
            rows may have several tags; null abstains. Then, for each `ask` rule whose LLM says how sure it is,
            `RULE:confidence`, Float32: the probability that it gave its answer, null where the rule abstains.
        questions: one row per `ask` rule: its question, the prompt and its version, answers, tokens and cost.
        metrics: rows, rules, coverage, overlap, conflict (shares of rows, 0 to 1), rules_never, rules_always,
            values_outside_tags (rows on which a Python rule named an unknown tag); with a default tag left_to_default
            (share of rows without a vote); with `ask` rules the metrics of `ask_votes`.

    Raises:
        MissingColumn, SchemaDrift, DataError: `key`, `text` or a rule's column is missing, null or of a wrong type.
        DuplicateKeys: `key` names more than one row.
        RulesError: a rule cannot be applied; the message names it.
        LlmSettings, LlmUnreachable, NoUsableAnswers: the LLM is not available, or too many answers are unusable.
    """
    started = time.perf_counter()
    file = io.BytesIO()
    asked = _ask(messages, rules, llm, asking, key=key, text=text)
    plan = votes_plan(messages, rules, asked.votes.lazy() if asked else None, key=key, text=text)
    options: dict[str, Any] = {"compression": "zstd", "compression_level": 1, "row_group_size": ROW_GROUP}
    computed(plan, messages, rules, lambda plan: plan.sink_parquet(file, statistics=False, **options))
    table = pl.scan_parquet(file.getvalue())
    check_key(table, key)
    outside = _outside_tags(table)
    votes = table.drop(_OUTSIDE + name for name in outside)
    figures = _figures(votes, rules)
    metrics = {"rows": float(figures.rows), "rules": float(len(rules.rules))} | figures.shares()
    if rules.otherwise is not None:
        metrics["left_to_default"] = 1 - metrics["coverage"] if figures.rows else 0.0
    metrics |= _warn_of_never_and_always(figures, rules)
    metrics["values_outside_tags"] = float(sum(outside.values()))
    metrics |= asked.metrics if asked else {}
    log.info(
        "rules.applied", rows=figures.rows, rules=len(rules.rules), seconds=round(time.perf_counter() - started, 3)
    )
    return Applied(votes, asked.questions if asked else no_questions(), metrics)


def votes_plan(
    messages: pl.LazyFrame,
    rules: RuleSet,
    ask_rule_votes: pl.LazyFrame | None = None,
    *,
    key: str = "id",
    text: str = "text",
) -> pl.LazyFrame:
    """Returns the lazy plan of `apply_rules`, to inspect or to extend, without its metrics and warnings.

    Args:
        messages: see `apply_rules`.
        rules: the rule set.
        ask_rule_votes: the votes of the `ask` rules (`ask_votes`), if there are any.
        key: the column that names a row.
        text: the column with the message.

    Returns:
        `key`, one column per rule, the confidences of `ask` rules if there are any, and for each rule that names tags
        itself a Boolean column `_outside:<rule>`: whether it named an unknown tag.

    Raises:
        MissingColumn, SchemaDrift, RulesError: see `apply_rules`.
    """
    schema = messages.collect_schema()
    _check_columns(rules, messages, key=key, text=text)
    text_rules = [rule for rule in rules.rules if rule.reads == "text"]
    votes: dict[str, pl.Expr] = {}
    outside: list[pl.Expr] = []
    plan = messages
    if text_rules:
        # Unnested, because to find one field Polars searches all fields of a struct.
        plan = messages.with_columns(text_hits(text_rules, pl.col(text), prefix=_HIT).alias(_HITS)).unnest(_HITS)
    dtype = vote_type(rules)
    ask_rules = [rule for rule in rules.rules if rule.reads == "answers"]
    confidences: list[str] = []
    if ask_rules:
        columns, confidences = _ask_columns(ask_rules, ask_rule_votes, rules, key=key)
        plan = plan.join(columns, on=key, how="left", maintain_order="left")
    for rule in rules.rules:
        if rule.reads == "answers":
            votes[rule.name] = pl.col(_ASK + rule.name)
        elif rule.reads == "text":
            _warn_of_slow(rule)
            votes[rule.name] = _vote(rule, pl.col(_HIT + rule.name), rules, dtype)
        else:
            condition = condition_of(rule, schema)
            value = condition.expression
            votes[rule.name] = (
                _named_vote(value, rules, dtype) if condition.by_name else _vote(rule, value, rules, dtype)
            )
            if condition.by_name:
                is_outside = value.is_not_null() & ~value.is_in(list(rules.tags))
                outside.append(is_outside.alias(_OUTSIDE + rule.name))
    # The plan of every vote includes the key: without it Polars 2.1 may return rows in another order.
    return plan.select(key, *(votes[rule.name].alias(rule.name) for rule in rules.rules), *confidences, *outside)


def _ask_columns(
    ask_rules: Sequence[Rule], votes: pl.LazyFrame | None, rules: RuleSet, *, key: str
) -> tuple[pl.LazyFrame, list[str]]:
    """Returns the votes of `ask` rules in columns with a prefix, to be joined to the messages by key.

    The names of the columns with confidences are returned, too.
    """
    if votes is None:
        raise RulesError(
            f"rule '{ask_rules[0].name}': the votes of the ask rules are missing",
            where=ask_rules[0].where,
            fix="pass them as `ask_rule_votes`, or remove the rule",
        )
    require_columns(votes, [key, *(rule.name for rule in ask_rules)], what="ask_rule_votes")
    dtype = vote_type(rules)
    there = set(votes.collect_schema().names())
    confidences = [name for name in (confidence_column(rule.name) for rule in ask_rules) if name in there]
    cast = [pl.col(rule.name).cast(dtype).alias(_ASK + rule.name) for rule in ask_rules]
    return votes.select(key, *cast, *confidences), confidences


def _ask(messages: pl.LazyFrame, rules: RuleSet, llm: Llm, asking: Asking, *, key: str, text: str) -> AskVotes | None:
    """Returns the votes of `ask` rules, if there are any; invalid messages are refused before requests are paid for."""
    if not any(rule.reads == "answers" for rule in rules.rules):
        return None
    _check_columns(rules, messages, key=key, text=text)
    check_key(messages, key)
    return ask_votes(messages, rules, llm, asking=asking, key=key, text=text)


def vote_type(rules: RuleSet) -> pl.DataType:
    """Returns the type of a vote column."""
    return pl.Int8() if rules.multi_label else pl.Enum(rules.categories)


def _vote(rule: Rule, fired: pl.Expr, rules: RuleSet, dtype: pl.DataType) -> pl.Expr:
    return pl.when(fired).then(pl.lit(rules.vote_of(rule), dtype=dtype))


def _named_vote(value: pl.Expr, rules: RuleSet, dtype: pl.DataType) -> pl.Expr:
    return pl.when(value.is_in(list(rules.tags))).then(value).cast(dtype)


def _warn_of_slow(rule: Rule) -> None:
    reason = python_only(rule.regex) if isinstance(rule, RegexRule) else None
    if reason:
        log.warning("rules.slow_regex", rule=rule.name, reason=reason, hint="runs in Python, row by row")


def _check_columns(rules: RuleSet, messages: pl.LazyFrame, *, key: str, text: str) -> None:
    looks_at_text = any(rule.reads in ("text", "answers") for rule in rules.rules)
    require_columns(messages, [key], what="messages")
    if looks_at_text:
        require_text(messages, text, what="messages")
    for rule in rules.rules:
        if rule.name == key:
            raise RulesError(f"rule '{rule.name}' has the name of the key column", fix="rename the rule")


def check_key(table: pl.LazyFrame, key: str) -> None:
    """Checks that a key column is unique and has no null.

    Args:
        table: the table.
        key: its key column.

    Raises:
        DataError: a key is null.
        DuplicateKeys: a key names several rows.
    """
    column = pl.col(key)
    rows, nulls, distinct = (
        table.select(rows=pl.len(), nulls=column.null_count(), distinct=column.n_unique())
        .collect(engine="streaming")
        .row(0)
    )
    if nulls or distinct < rows:
        require_unique(table.select(key).collect(engine="streaming")[key], what="messages")


def _outside_tags(table: pl.LazyFrame) -> dict[str, int]:
    """Counts, by Python rule, the rows on which it named an unknown tag, and warns of them."""
    columns = [column for column in table.collect_schema().names() if column.startswith(_OUTSIDE)]
    if not columns:
        return {}
    sums = table.select(pl.col(columns).sum()).collect(engine="streaming").row(0)
    counts = {column.removeprefix(_OUTSIDE): int(count) for column, count in zip(columns, sums, strict=True)}
    for name, count in counts.items():
        if count:
            log.warning(
                "rules.outside_tags",
                rule=name,
                rows=count,
                hint="it returned unknown tags: it abstains there",
            )
    return counts


def _figures(votes: pl.LazyFrame, rules: RuleSet) -> Agreement:
    """Counts coverage, overlap and conflict, batch by batch."""
    m, k = len(rules.rules), len(rules.tags)
    none = np.zeros(0, dtype=np.int64)
    total = agreement_of_cast(none, none, none, none, m=m, k=k, multi_label=rules.multi_label)
    code_of = vote_meaning(rules).astype(np.int64)
    names = [rule.name for rule in rules.rules]
    for batch in votes.select(names).collect_batches(chunk_size=ROW_GROUP, maintain_order=True):
        cast = batch.select(pl.sum_horizontal(pl.all().is_not_null())).to_series()
        # Most rows have at most one vote: only the others are examined vote by vote.
        several = batch.filter(cast >= 2).select(pl.all().to_physical().cast(pl.Int16).fill_null(-1)).to_numpy()
        rows, which = np.nonzero(several >= 0)
        found = agreement_of_cast(
            rows, which, code_of[which, several[rows, which]], np.ones(len(several), dtype=np.int64),
            m=m, k=k, multi_label=rules.multi_label,
        )  # fmt: skip
        by_rule = batch.height - np.array(batch.null_count().row(0), dtype=np.int64)
        total += replace(found, rows=batch.height, covered=int((cast > 0).sum()), rule_covered=by_rule)
    return total


def _warn_of_never_and_always(figures: Agreement, rules: RuleSet) -> dict[str, float]:
    counts = dict(zip((rule.name for rule in rules.rules), figures.rule_covered.tolist(), strict=True))
    never = [name for name, count in counts.items() if count == 0 and figures.rows]
    always = [name for name, count in counts.items() if count == figures.rows and figures.rows]
    if never:
        log.warning("rules.never_vote", rules=never, rows=figures.rows)
    if always:
        log.warning("rules.always_vote", rules=always, rows=figures.rows)
    return {"rules_never": float(len(never)), "rules_always": float(len(always))}

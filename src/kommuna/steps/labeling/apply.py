"""Step: labeling rules over messages, to votes."""

from __future__ import annotations

import time
from typing import NamedTuple

import polars as pl
import structlog

from kommuna.errors import DataError, DuplicateKeys, MissingColumn, RulesError, SchemaDrift, nearest
from kommuna.spec.rules import Rule, RuleSet
from kommuna.steps.labeling.conditions import Condition, python_condition, sql_condition
from kommuna.steps.labeling.keywords import keyword_hits
from kommuna.steps.labeling.patterns import vote_patterns
from kommuna.steps.labeling.regexes import python_only, regex_hits

log = structlog.get_logger()

_HITS = "_keyword_hits"
_ASTRAY = "_astray:"


class Applied(NamedTuple):
    """What `apply_rules` leaves."""

    votes: pl.LazyFrame
    metrics: dict[str, float]


def apply_rules(messages: pl.LazyFrame, rules: RuleSet, *, key: str = "id", text: str = "text") -> Applied:
    """Applies every rule to every message, in one streaming pass.

    Memory holds the votes (one byte a row and rule, and the key), never the texts.

    Args:
        messages: one row a message: `key`, `text`, and the columns that SQL and Python rules use.
        rules: the rule set; docs/rules.md says what each kind of rule means.
        key: the column that names a row; unique, not null.
        text: the String column that `any` and `regex` rules look at; a null text gets no votes from them.
    Returns:
        votes: `key`, then one column a rule: `pl.Enum(rules.categories)`, or Int8 1/0 where rows have several tags;
            null is no opinion.
        metrics: rows, rules, coverage, overlap, conflict (shares of rows, 0 to 1), rules_never, rules_always,
            values_outside_tags (rows on which a Python rule named no known tag).
    Raises:
        MissingColumn, SchemaDrift, DataError: `key`, `text` or a rule's column is missing, null or of a wrong type.
        DuplicateKeys: `key` names more than one row.
        RulesError: a rule cannot be applied; the message names it.
    """
    started = time.perf_counter()
    table = votes_plan(messages, rules, key=key, text=text).collect(engine="streaming")
    _check_key(table[key], key)
    astray = [column for column in table.columns if column.startswith(_ASTRAY)]
    outside = {column.removeprefix(_ASTRAY): int(table[column].sum()) for column in astray}
    table = table.drop(astray)
    for name, count in outside.items():
        if count:
            log.warning("rules.outside_tags", rule=name, rows=count, hint="it named values that are no tag: no vote")
    metrics = {"rows": float(table.height), "rules": float(len(rules.rules))} | _shares(table, rules, key)
    metrics["values_outside_tags"] = float(sum(outside.values()))
    log.info(
        "rules.applied", rows=table.height, rules=len(rules.rules), seconds=round(time.perf_counter() - started, 3)
    )
    return Applied(table.lazy(), metrics)


def votes_plan(messages: pl.LazyFrame, rules: RuleSet, *, key: str = "id", text: str = "text") -> pl.LazyFrame:
    """The lazy plan behind `apply_rules`, to look at or to extend; it counts and warns of nothing.

    Returns:
        `key`, one column a rule, and a Boolean column `_astray:<rule>` for each rule that names tags itself.
    """
    schema = messages.collect_schema()
    _check_columns(rules, schema, key=key, text=text)
    keyword_rules = [rule for rule in rules.rules if rule.kind == "any"]
    fired: dict[str, pl.Expr] = {}
    by_name: dict[str, pl.Expr] = {}
    for rule in rules.rules:
        if rule.kind == "any":
            fired[rule.name] = pl.col(_HITS).struct.field(rule.name)
        elif rule.kind == "regex":
            _warn_of_slow(rule)
            fired[rule.name] = regex_hits(rule, pl.col(text))
        else:
            condition = _condition(rule, schema)
            (by_name if condition.by_name else fired)[rule.name] = condition.expression
    plan = messages.with_columns(keyword_hits(keyword_rules, pl.col(text)).alias(_HITS)) if keyword_rules else messages
    votes = [
        _named_vote(by_name[rule.name], rules) if rule.name in by_name else _vote(rule, fired[rule.name], rules)
        for rule in rules.rules
    ]
    astray = [
        (value.is_not_null() & ~value.is_in(list(rules.tags))).alias(_ASTRAY + name) for name, value in by_name.items()
    ]
    # The key stands in the plan of every vote: without it Polars 2.1 may return rows in another order.
    return plan.select(key, *(vote.alias(rule.name) for rule, vote in zip(rules.rules, votes, strict=True)), *astray)


def vote_type(rules: RuleSet) -> pl.DataType:
    """The type of a vote column."""
    return pl.Int8() if rules.several_tags else pl.Enum(rules.categories)


def _vote(rule: Rule, fired: pl.Expr, rules: RuleSet) -> pl.Expr:
    value = rules.vote_of(rule)
    return pl.when(fired).then(pl.lit(value, dtype=vote_type(rules)))


def _named_vote(value: pl.Expr, rules: RuleSet) -> pl.Expr:
    return pl.when(value.is_in(list(rules.tags))).then(value).cast(vote_type(rules))


def _condition(rule: Rule, schema: pl.Schema) -> Condition:
    if rule.kind == "sql":
        return sql_condition(rule, schema)
    if rule.kind == "python":
        return python_condition(rule, schema)
    raise RulesError(
        f"rule '{rule.name}': ask rules need an LLM endpoint; not available yet",
        where=f"ask: {rule.ask}",
        mend="remove the rule, or write it as keywords, a regex, SQL or Python",
    )


def _warn_of_slow(rule: Rule) -> None:
    reason = python_only(rule.regex or "")
    if reason:
        log.warning("rules.slow_regex", rule=rule.name, reason=reason, hint="runs in Python, row by row")


def _check_columns(rules: RuleSet, schema: pl.Schema, *, key: str, text: str) -> None:
    looks_at_text = any(rule.kind in ("any", "regex") for rule in rules.rules)
    for column in (key, text) if looks_at_text else (key,):
        if column not in schema:
            raise MissingColumn(
                f"the messages have no column '{column}'{nearest(column, schema.names())}",
                where=f"messages: {', '.join(schema.names())}",
            )
    if looks_at_text and schema[text] != pl.String:
        raise SchemaDrift(f"column '{text}': expected String, found {schema[text]}", where="messages")
    for rule in rules.rules:
        if rule.name == key:
            raise RulesError(f"rule '{rule.name}' has the name of the key column", mend="rename the rule")


def _check_key(keys: pl.Series, key: str) -> None:
    if keys.null_count():
        raise DataError(f"column '{key}': {keys.null_count()} of {len(keys)} keys are null", where="messages")
    if keys.n_unique() < len(keys):
        twice = keys.filter(keys.is_duplicated())
        raise DuplicateKeys(
            f"column '{key}': {twice[0]!r} names {int((keys == twice[0]).sum())} rows ({len(twice)} rows share a key)",
            where="messages",
            mend="remove the duplicates, or take another key",
        )


def _shares(table: pl.DataFrame, rules: RuleSet, key: str) -> dict[str, float]:
    """Coverage, overlap, conflict, and the rules that never or always vote, which are also logged."""
    rows = table.height
    cast = {rule.name: rows - table[rule.name].null_count() for rule in rules.rules}
    never = [name for name, count in cast.items() if count == 0 and rows]
    always = [name for name, count in cast.items() if count == rows and rows]
    if never:
        log.warning("rules.never_vote", rules=never, rows=rows)
    if always:
        log.warning("rules.always_vote", rules=always, rows=rows)
    counts = {"rules_never": float(len(never)), "rules_always": float(len(always))}
    return vote_patterns(table, rules, key=key).agreement().shares() | counts

"""Figures of rules from votes without a rule set: a matrix, or the votes of Python functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from kommuna.errors import DataError
from kommuna.spec.rules import RuleSet
from kommuna.steps.labeling.votes.columns import label_indices, tag_names, vote_columns
from kommuna.steps.labeling.votes.patterns import ABSTAIN
from kommuna.steps.statistics import wilson


def rule_summary(
    votes: Any, labels: Any = None, *, tags: Sequence[str] | RuleSet | None = None, key: str | None = "id"
) -> pl.DataFrame:
    """Summarizes each rule's votes: tags, coverage, overlap, conflict, and accuracy if labels are given.

    For the rules of a `RuleSet`, `rule_report` has more figures.

    Args:
        votes: a matrix or table, see `LabelModel`.
        labels: n true tags, by name or number as in the votes; null (or -1) means unknown.
        tags: see `LabelModel`.
        key: a column of the table that does not belong to a rule.

    Returns:
        One row per rule, in their order: `rule`; `votes_for`, a list of tags (`!tag` against it); coverage, overlap,
        conflict (shares of rows); with labels also right and wrong (numbers of votes on labeled rows), and accuracy
        with its 95 % interval, accuracy_low and accuracy_high: null if there is no such vote.
    """
    names, k = tag_names(tags, None)
    columns = vote_columns(votes, tags=names, k=k, key=key)
    patterns = columns.patterns()
    agreement = patterns.agreement
    meaning = [*patterns.tags, *(f"!{tag}" for tag in patterns.tags)]
    n = max(agreement.rows, 1)
    table = pl.DataFrame(
        {
            "rule": columns.rules,
            "votes_for": [[meaning[v] for v in np.unique(column) if v != ABSTAIN] for column in columns.columns],
            "coverage": agreement.rule_covered / n,
            "overlap": agreement.rule_overlaps / n,
            "conflict": agreement.rule_conflicts / n,
        },
        schema_overrides={"votes_for": pl.List(pl.String)},
    )
    if labels is None:
        return table
    truth = label_indices(labels, columns.tags, k)
    if len(truth) != len(columns):
        raise DataError(f"there are {len(columns)} rows of votes and {len(truth)} labels", fix="pass one label per row")
    lines = []
    for column in columns.columns:
        judged = (column != ABSTAIN) & (truth != ABSTAIN)
        vote, true = column[judged], truth[judged]
        right = int(np.where(vote < columns.k, vote == true, vote - columns.k != true).sum())
        low, high = wilson(right, len(vote))
        share = (right / len(vote), low, high) if len(vote) else (None, None, None)
        lines.append((right, len(vote) - right, *share))
    schema = {"right": pl.Int64, "wrong": pl.Int64} | dict.fromkeys(
        ("accuracy", "accuracy_low", "accuracy_high"), pl.Float64
    )
    return table.hstack(pl.DataFrame(lines, schema=schema, orient="row"))

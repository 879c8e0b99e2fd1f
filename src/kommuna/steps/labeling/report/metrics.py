"""Figures of each rule: coverage, overlap, conflict, and accuracy."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kommuna.spec.rules import RuleSet
from kommuna.steps.labeling.votes.labeled_votes import LabeledVotes
from kommuna.steps.labeling.votes.patterns import Codes, VotePatterns
from kommuna.steps.statistics import wilson

BY_NAME = "by name"  # shown for a rule that names tags itself and has not voted
_NAMED = 5  # tags shown for such a rule

COLUMNS: dict[str, type[pl.DataType]] = {
    "rule": pl.String,
    "group": pl.String,
    "kind": pl.String,
    "vote": pl.String,
    "flag": pl.String,
    "coverage": pl.Float64,
    "overlap": pl.Float64,
    "conflict": pl.Float64,
    "agrees": pl.Float64,
    "dev_votes": pl.Int64,
    "dev_right": pl.Int64,
    "accuracy": pl.Float64,
    "accuracy_low": pl.Float64,
    "accuracy_high": pl.Float64,
    "gain": pl.Float64,
}


def rule_figures(
    patterns: VotePatterns,
    rules: RuleSet,
    dev: LabeledVotes | None,
    has_tag: NDArray[np.bool_] | None,
    gain: NDArray[np.float64] | None = None,
) -> pl.DataFrame:
    """Returns one row per rule, the worst rule first.

    Rules that never or always vote come first. The others are ordered by the upper end of the accuracy's interval on
    dev, so that a rule that is certainly bad precedes one with too few votes to judge.

    Args:
        patterns: the rules' votes on all rows.
        rules: the rule set.
        dev: the dev rows; without them the accuracy is unknown.
        has_tag: P x k, whether the label model assigned the tag to the pattern; None without labels.
        gain: m, each rule's gain on dev (`Gains`).

    Returns:
        Columns `COLUMNS`. Coverage, overlap and conflict are shares of rows; agrees and accuracy are shares of the
        rule's votes; unknown figures are null.
    """
    agreement = patterns.agreement
    n = max(agreement.rows, 1)
    lines = []
    labeled = None
    if has_tag is not None:
        known = patterns.covered if patterns.multi_label else has_tag.any(axis=1)
        labeled = patterns.votes[known], has_tag[known], patterns.counts[known]
    once = np.ones(len(dev) if dev else 0, dtype=np.int64)
    for j, rule in enumerate(rules.rules):
        covered = int(agreement.rule_covered[j])
        right, judged = _right(dev.votes[:, j], dev.truth, once) if dev else (0, 0)
        agreed, compared = _right(labeled[0][:, j], *labeled[1:]) if labeled else (0, 0)
        low, high = wilson(right, judged)
        lines.append(
            {
                "rule": rule.name,
                "group": rule.group,
                "kind": rule.kind,
                "vote": ("not " if rule.against else "") + (rule.tag or _tags_named(patterns, j)),
                "flag": "never votes" if covered == 0 else "always votes" if covered == agreement.rows else "",
                "coverage": covered / n,
                "overlap": int(agreement.rule_overlaps[j]) / n,
                "conflict": int(agreement.rule_conflicts[j]) / n,
                "agrees": agreed / compared if compared else None,
                "dev_votes": judged if dev else None,
                "dev_right": right if dev else None,
                "accuracy": right / judged if judged else None,
                "accuracy_low": low if judged else None,
                "accuracy_high": high if judged else None,
                "gain": None if gain is None else float(gain[j]),
            }
        )
    table = pl.DataFrame(lines, schema=COLUMNS)
    best = pl.coalesce("accuracy_high", pl.lit(1.0))
    return table.sort(pl.col("flag") == "", best, "agrees", -pl.col("conflict"), nulls_last=True, maintain_order=True)


def accuracy(dev: LabeledVotes, j: int) -> float | None:
    """Returns the share of right votes of rule j on dev rows; None if it does not vote there."""
    right, judged = _right(dev.votes[:, j], dev.truth, np.ones(len(dev), dtype=np.int64))
    return right / judged if judged else None


def _tags_named(patterns: VotePatterns, j: int) -> str:
    """Returns the tags that a rule without a tag of its own votes for, the most frequent first."""
    votes = patterns.votes[:, j]
    voted = votes >= 0
    rows = np.bincount(votes[voted], weights=patterns.counts[voted], minlength=len(patterns.tags))
    named = [patterns.tags[t] for t in np.argsort(-rows, kind="stable") if rows[t]]
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return ", ".join(named[:_NAMED]) + more or BY_NAME


def _right(votes: Codes, truth: NDArray[np.bool_], counts: NDArray[np.int64]) -> tuple[int, int]:
    """Counts one rule's votes that are right, and all its votes."""
    k = truth.shape[1]
    voted = np.flatnonzero(votes >= 0)
    codes = votes[voted]
    right = np.where(codes < k, truth[voted, codes % k], ~truth[voted, codes % k])
    return int(counts[voted][right].sum()), int(counts[voted].sum())

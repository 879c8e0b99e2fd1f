"""Step: the rule report, in which the worst rule is seen first."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kommuna.errors import DataError
from kommuna.spec.artifacts import Report
from kommuna.spec.rules import RuleSet
from kommuna.steps.columns import require_columns
from kommuna.steps.frames import takes_frames
from kommuna.steps.labeled_rows import label_column
from kommuna.steps.labeling.report.ablation import gains
from kommuna.steps.labeling.report.errors import dev_texts, rule_errors, tag_figures
from kommuna.steps.labeling.report.metrics import rule_figures
from kommuna.steps.labeling.report.page import POOR, Judged, rule_page
from kommuna.steps.labeling.votes.dev_rows import Dev, read_dev
from kommuna.steps.labeling.votes.patterns import VotePatterns, vote_patterns


class RuleReport(NamedTuple):
    """What `rule_report` leaves."""

    report: Report
    table: pl.DataFrame
    metrics: dict[str, float]


@takes_frames
def rule_report(
    votes: pl.LazyFrame,
    rules: RuleSet,
    labels: pl.LazyFrame | None = None,
    dev_votes: pl.LazyFrame | None = None,
    dev: pl.LazyFrame | None = None,
    *,
    key: str = "id",
    text: str = "text",
    label: str = "tag",
) -> RuleReport:
    """Tells each rule's figures, the worst rule first.

    Args:
        votes: what `apply_rules` returned.
        rules: the rule set that was applied.
        labels: what `label_messages` returned for the same rows: then each rule's agreement with it is told.
        dev_votes: votes of the same rules on the dev rows.
        dev: the dev rows: `key` and `label`; then each rule's accuracy is told with its 95 % interval, what it is worth
            to the others, and its most telling errors.
        key: the column that names a row.
        text: the column of `dev` with the message, masked here again before it is shown; without it rows are shown by
            their other columns, or by their key.
        label: the column of `dev` with the true tag, or tags.

    Returns:
        report: a page that opens offline.
        table: the figures, one row per rule (`metrics.COLUMNS`).
        metrics: rows, rules, coverage, overlap, conflict, rules_never, rules_always; with a default tag left_to_default
            (share of rows without a vote); with dev rows also dev_vote_accuracy (share of right votes), rules_poor
            (surely below one half) and rules_harmful (without them dev rows are labeled better).
    """
    require_columns(votes, [key], what="votes")
    frame = votes.collect(engine="streaming")
    patterns = vote_patterns(frame, rules, key=key)
    dev_rows = read_dev(dev_votes, dev, rules, key=key, label=label)
    has_tag = _label_of_pattern(labels, frame[key], patterns, key=key) if labels is not None else None
    judged = None
    if dev_rows is not None and dev_rows.keys is not None and dev is not None:
        tag_column = label_column(dev, label, several_tags=rules.several_tags)
        judged = _judged(dev_rows, dev_texts(dev_rows.keys, dev, text=text, label=tag_column), rules)
    figures = rule_figures(patterns, rules, dev_rows, has_tag, judged.rule_gain if judged else None)
    metrics = {"rows": float(patterns.rows), "rules": float(len(rules.rules))} | patterns.agreement.shares()
    metrics["rules_never"] = float((figures["flag"] == "never votes").sum())
    metrics["rules_always"] = float((figures["flag"] == "always votes").sum())
    if rules.otherwise is not None:
        metrics["left_to_default"] = float(patterns.counts[patterns.left].sum() / max(patterns.rows, 1))
    if judged is not None:
        metrics["dev_vote_accuracy"] = float(figures["dev_right"].sum()) / max(float(figures["dev_votes"].sum()), 1.0)
        metrics["rules_poor"] = float((figures["accuracy_high"] < POOR).sum())
        metrics["rules_harmful"] = float((figures["gain"] < 0).sum())
    return RuleReport(rule_page(figures, patterns, rules, metrics, judged), figures, metrics)


def _judged(dev: Dev, texts: pl.DataFrame, rules: RuleSet) -> Judged:
    """What dev rows say of the rules, the groups and the tags."""
    of_group = {group: [j for j, rule in enumerate(rules.rules) if rule.group == group] for group in rules.groups}
    left_out = [*([j] for j in range(len(rules.rules))), *of_group.values()]
    found = gains(dev, left_out, tags=rules.tags, several_tags=rules.several_tags, default=rules.default)
    worth = found.gain[len(rules.rules) :].tolist()
    return Judged(
        found.figure,
        found.gain[: len(rules.rules)],
        dict(zip(of_group, worth, strict=True)),
        rule_errors(dev, found, texts, rules),
        tag_figures(dev, found, rules),
    )


def _label_of_pattern(labels: pl.LazyFrame, keys: pl.Series, patterns: VotePatterns, *, key: str) -> NDArray[np.bool_]:
    """P x k: the tags that each pattern was given. Rows of one pattern have one label: the label model saw no more."""
    column = "tags" if patterns.several_tags else "tag"
    require_columns(labels, [key, column], what="labels")
    _, first = np.unique(patterns.row_pattern, return_index=True)
    asked = pl.DataFrame({key: keys.gather(first)})
    found = asked.join(labels.select(key, column).collect(), on=key, how="left", maintain_order="left")
    if found.height != asked.height or (patterns.covered.any() and found[column].null_count() == found.height):
        raise DataError("labels and votes are not of the same rows", where=f"column '{key}'")
    has_tag = np.zeros((len(patterns.counts), len(patterns.tags)), dtype=np.bool_)
    index = {tag: i for i, tag in enumerate(patterns.tags)}
    for pattern, value in enumerate(found[column].to_list()):
        for tag in (value or []) if patterns.several_tags else ([] if value is None else [value]):
            has_tag[pattern, index[tag]] = True
    return has_tag

"""Step: reports on rules, the worst rule first."""

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
from kommuna.steps.labeling.report.metrics import accuracy, rule_figures
from kommuna.steps.labeling.report.page import POOR, DevFigures, rule_page
from kommuna.steps.labeling.report.questions import question_figures
from kommuna.steps.labeling.votes.grades import Grades, unsure_part
from kommuna.steps.labeling.votes.labeled_votes import LabeledVotes, read_dev
from kommuna.steps.labeling.votes.patterns import VotePatterns, vote_patterns


class RuleReport(NamedTuple):
    """The outputs of `rule_report`."""

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
    questions: pl.LazyFrame | None = None,
    *,
    key: str = "id",
    text: str = "text",
    label: str = "tag",
) -> RuleReport:
    """Reports each rule's figures, the worst rule first.

    Args:
        votes: the result of `apply_rules`.
        rules: the rule set that was applied.
        labels: the result of `label_messages` for the same rows, for each rule's agreement with it.
        dev_votes: votes of the same rules on the dev rows.
        dev: the dev rows: `key` and `label`, for each rule's accuracy with its 95 % interval, its gain, and its most
            informative errors.
        questions: the output of `apply_rules` of that name, for the prompt and the price of each question to an LLM.
        key: the column that names a row.
        text: the column of `dev` with the message, which is masked again before it is shown; without this column rows
            are shown by their other columns, or by their key.
        label: the column of `dev` with the true tag, or tags.

    Returns:
        report: an HTML page that needs no network.
        table: the figures, one row per rule (`metrics.COLUMNS`).
        metrics: rows, rules, coverage, overlap, conflict, rules_never, rules_always; with a default tag left_to_default
            (share of rows without a vote); with dev rows also dev_vote_accuracy (share of right votes), rules_poor
            (the interval of the accuracy is below one half) and rules_harmful (dev rows are labeled better without
            the rule).

    Raises:
        MissingColumn, SchemaDrift, DuplicateKeys, RulesError: see `vote_patterns` and `read_dev`.
        DataError: labels and votes are not of the same rows, or see `read_dev`.
    """
    require_columns(votes, [key], what="votes")
    frame = votes.collect(engine="streaming")
    patterns = vote_patterns(frame, rules, key=key)
    dev_rows = read_dev(dev_votes, dev, rules, key=key, label=label)
    has_tag = _label_of_pattern(labels, frame[key], patterns, key=key) if labels is not None else None
    on_dev = None
    if dev_rows is not None and dev_rows.keys is not None and dev is not None:
        tag_column = label_column(dev, label, multi_label=rules.multi_label)
        on_dev = _dev_figures(dev_rows, dev_texts(dev_rows.keys, dev, text=text, label=tag_column), rules)
    figures = rule_figures(patterns, rules, dev_rows, has_tag, on_dev.rule_gain if on_dev else None)
    metrics = {"rows": float(patterns.rows), "rules": float(len(rules.rules))} | patterns.agreement.shares()
    metrics["rules_never"] = float((figures["flag"] == "never votes").sum())
    metrics["rules_always"] = float((figures["flag"] == "always votes").sum())
    if rules.otherwise is not None:
        metrics["left_to_default"] = float(patterns.counts[patterns.left].sum() / max(patterns.rows, 1))
    if on_dev is not None:
        metrics["dev_vote_accuracy"] = float(figures["dev_right"].sum()) / max(float(figures["dev_votes"].sum()), 1.0)
        metrics["rules_poor"] = float((figures["accuracy_high"] < POOR).sum())
        metrics["rules_harmful"] = float((figures["gain"] < 0).sum())
    asked = None
    if questions is not None:
        grades = _accuracy_by_grade(votes, dev_votes, dev, rules, key=key, label=label)
        asked = question_figures(questions, figures, grades)
    return RuleReport(rule_page(figures, patterns, rules, metrics, on_dev, asked), figures, metrics)


def _accuracy_by_grade(
    votes: pl.LazyFrame,
    dev_votes: pl.LazyFrame | None,
    dev: pl.LazyFrame | None,
    rules: RuleSet,
    *,
    key: str,
    label: str,
) -> dict[str, tuple[float | None, float | None]]:
    """Returns the accuracy on dev of the more and of the less sure votes of each rule whose votes have a confidence."""
    grades = Grades.of(votes, rules)
    if dev_votes is None or not grades.cuts:
        return {}
    split = read_dev(grades.split(dev_votes), dev, grades.rules, key=key, label=label)
    if split is None:
        return {}
    place = {rule.name: j for j, rule in enumerate(grades.rules.rules)}
    return {name: (accuracy(split, place[name]), accuracy(split, place[unsure_part(name)])) for name in grades.cuts}


def _dev_figures(dev: LabeledVotes, texts: pl.DataFrame, rules: RuleSet) -> DevFigures:
    """Computes the figures of rules, groups and tags on dev rows."""
    of_group = {group: [j for j, rule in enumerate(rules.rules) if rule.group == group] for group in rules.groups}
    left_out = [*([j] for j in range(len(rules.rules))), *of_group.values()]
    found = gains(dev, left_out, tags=rules.tags, multi_label=rules.multi_label, default=rules.default)
    group_gain = found.gain[len(rules.rules) :].tolist()
    return DevFigures(
        found.figure,
        found.gain[: len(rules.rules)],
        dict(zip(of_group, group_gain, strict=True)),
        rule_errors(dev, found, texts, rules),
        tag_figures(dev, found, rules),
    )


def _label_of_pattern(labels: pl.LazyFrame, keys: pl.Series, patterns: VotePatterns, *, key: str) -> NDArray[np.bool_]:
    """Returns P x k, the tags of each pattern: rows with the same votes have the same label."""
    column = "tags" if patterns.multi_label else "tag"
    require_columns(labels, [key, column], what="labels")
    _, first = np.unique(patterns.row_pattern, return_index=True)
    first_rows = pl.DataFrame({key: keys.gather(first)})
    found = first_rows.join(labels.select(key, column).collect(), on=key, how="left", maintain_order="left")
    if found.height != first_rows.height or (patterns.covered.any() and found[column].null_count() == found.height):
        raise DataError("labels and votes are not of the same rows", where=f"column '{key}'")
    has_tag = np.zeros((len(patterns.counts), len(patterns.tags)), dtype=np.bool_)
    index = {tag: i for i, tag in enumerate(patterns.tags)}
    for pattern, value in enumerate(found[column].to_list()):
        for tag in (value or []) if patterns.multi_label else ([] if value is None else [value]):
            has_tag[pattern, index[tag]] = True
    return has_tag

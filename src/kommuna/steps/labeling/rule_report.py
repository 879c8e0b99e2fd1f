"""Step: the rule report, in which the worst rule is seen first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kommuna.errors import DataError, MissingColumn
from kommuna.spec.artifacts import Report
from kommuna.spec.rules import RuleSet
from kommuna.steps.labeling.dev import read_dev
from kommuna.steps.labeling.patterns import VotePatterns, vote_patterns
from kommuna.steps.labeling.rule_figures import rule_figures
from kommuna.steps.report import ACCENT, BAD, GOOD, INK, MUTED, page, plot, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHOWN_BARS = 25  # rules in the plot of intervals
_POOR = 0.5  # an accuracy below this is marked as bad where the whole interval lies below


class RuleReport(NamedTuple):
    """What `rule_report` leaves."""

    report: Report
    table: pl.DataFrame
    metrics: dict[str, float]


def rule_report(
    votes: pl.LazyFrame,
    rules: RuleSet,
    labels: pl.LazyFrame | None = None,
    dev_votes: pl.LazyFrame | None = None,
    dev: pl.LazyFrame | None = None,
    *,
    key: str = "id",
    label: str = "tag",
) -> RuleReport:
    """Tells each rule's figures, the worst rule first.

    Args:
        votes: what `apply_rules` returned.
        rules: the rule set that was applied.
        labels: what `label_messages` returned for the same rows: then each rule's agreement with it is told.
        dev_votes: votes of the same rules on the dev rows.
        dev: the dev rows: `key` and `label`; then each rule's accuracy is told, with its 95 % interval.
        key: the column that names a row.
        label: the column of `dev` with the true tag, or tags.
    Returns:
        report: a page that opens offline.
        table: the figures, one line a rule (`rule_figures.COLUMNS`).
        metrics: rows, rules, coverage, overlap, conflict, rules_never, rules_always; with dev rows also
            dev_vote_accuracy (share of right votes) and rules_poor (surely below one half).
    """
    frame = votes.collect(engine="streaming")
    if key not in frame.columns:
        raise MissingColumn(f"the votes have no column '{key}'", where="votes")
    patterns = vote_patterns(frame, rules, key=key)
    dev_rows = read_dev(dev_votes, dev, rules, key=key, label=label)
    has_tag = _label_of_pattern(labels, frame[key], patterns, key=key) if labels is not None else None
    figures = rule_figures(patterns, rules, dev_rows, has_tag)
    metrics = {"rows": float(patterns.rows), "rules": float(len(rules.rules))} | patterns.agreement().shares()
    metrics["rules_never"] = float((figures["flag"] == "never votes").sum())
    metrics["rules_always"] = float((figures["flag"] == "always votes").sum())
    if dev_rows is not None:
        metrics["dev_vote_accuracy"] = float(figures["dev_right"].sum()) / max(float(figures["dev_votes"].sum()), 1.0)
        metrics["rules_poor"] = float((figures["accuracy_high"] < _POOR).sum())
    return RuleReport(_page(figures, patterns, metrics, dev_given=dev_rows is not None), figures, metrics)


def _label_of_pattern(labels: pl.LazyFrame, keys: pl.Series, patterns: VotePatterns, *, key: str) -> NDArray[np.bool_]:
    """P x k: the tags that each pattern was given. Rows of one pattern have one label: the label model saw no more."""
    column = "tags" if patterns.several_tags else "tag"
    names = labels.collect_schema().names()
    for wanted in (key, column):
        if wanted not in names:
            raise MissingColumn(f"the labels have no column '{wanted}'", where=f"labels: {', '.join(names)}")
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


def _page(figures: pl.DataFrame, patterns: VotePatterns, metrics: dict[str, float], *, dev_given: bool) -> Report:
    worst = figures.row(0, named=True)
    sections = []
    if dev_given and figures["accuracy"].is_not_null().any():
        judged = figures.filter(pl.col("accuracy").is_not_null())
        shown = judged.head(_SHOWN_BARS)
        heading = "Accuracy on dev, worst first" + (
            f" ({_SHOWN_BARS} of {judged.height} rules)" if judged.height > shown.height else ""
        )
        sections.append((heading, plot(lambda axes: _draw_intervals(axes, shown), height=0.8 + 0.24 * shown.height)))
        sections.append(("Accuracy against coverage", plot(lambda axes: _draw_scatter(axes, judged))))
    names = {
        "rule": "rule", "kind": "kind", "vote": "votes for", "flag": "", "coverage": "coverage", "overlap": "overlap",
        "conflict": "conflict", "agrees": "agrees with labels", "dev_votes": "dev votes", "accuracy": "accuracy",
        "accuracy_low": "from", "accuracy_high": "to",
    }  # fmt: skip
    empty = [c for c in names if figures[c].null_count() == figures.height]
    shown_columns = [c for c in names if c not in empty]
    rows = figures.select(shown_columns).rows()

    def mark(_: int, column: str, value: Any) -> str:
        if column == "" and value:
            return "bad"
        return "bad" if column == "to" and value is not None and value < _POOR else ""

    sections.append(("Rules", table([names[c] for c in shown_columns], rows, mark=mark)))
    sections.append(("Tags", table(["tag", "rules", "rows with a vote", "share"], _tags(patterns))))
    return page(
        "Rule report",
        _lead(worst, dev_given),
        figures=[
            ("rows", f"{patterns.rows:,}"),
            ("rules", f"{len(patterns.rules):,}"),
            *((name, f"{metrics[name]:.1%}") for name in ("coverage", "overlap", "conflict")),
            *([("votes right on dev", f"{metrics['dev_vote_accuracy']:.1%}")] if dev_given else []),
        ],
        sections=sections,
    )


def _lead(worst: dict[str, Any], dev_given: bool) -> str:
    if worst["flag"]:
        return f"Look first at {worst['rule']}: it {worst['flag']}."
    if worst["accuracy"] is not None:
        return (
            f"Look first at {worst['rule']}: right in {worst['dev_right']} of {worst['dev_votes']} votes on dev, "
            f"at best {worst['accuracy_high']:.0%}."
        )
    return "No rule voted on a dev row." if dev_given else "Without dev rows nothing is known of the rules' accuracy."


def _tags(patterns: VotePatterns) -> list[tuple[str, int, int, float]]:
    lines = []
    for t, tag in enumerate(patterns.tags):
        votes = patterns.votes == t
        rows = int(patterns.counts[votes.any(axis=1)].sum())
        lines.append((tag, int(votes.any(axis=0).sum()), rows, rows / max(patterns.rows, 1)))
    return sorted(lines, key=lambda line: line[2])


def _draw_intervals(axes: Axes, rules: pl.DataFrame) -> None:
    place = np.arange(rules.height)[::-1]
    low, high, share = (rules[c].to_numpy() for c in ("accuracy_low", "accuracy_high", "accuracy"))
    axes.hlines(place, low, high, color=MUTED, linewidth=3, alpha=0.5)
    axes.scatter(
        share,
        place,
        color=[BAD if top < _POOR else GOOD if bottom > _POOR else INK for bottom, top in zip(low, high, strict=True)],
        zorder=2,
    )
    axes.set_yticks(place, rules["rule"].to_list())
    axes.set_xlim(0, 1)
    axes.set_xlabel("accuracy on dev, with its 95 % interval")


def _draw_scatter(axes: Axes, rules: pl.DataFrame) -> None:
    coverage, share = rules["coverage"].to_numpy(), rules["accuracy"].to_numpy()
    axes.scatter(
        coverage, share, s=np.clip(rules["dev_votes"].to_numpy(), 4, 200), color=ACCENT, alpha=0.6, linewidths=0
    )
    for row in rules.head(5).iter_rows(named=True):
        axes.annotate(
            row["rule"], (row["coverage"], row["accuracy"]), color=INK, xytext=(4, 4), textcoords="offset points"
        )
    if (coverage > 0).all():
        axes.set_xscale("log")
    axes.set_ylim(-0.05, 1.05)
    axes.set_xlabel("coverage (share of rows, logarithmic); size: votes on dev")
    axes.set_ylabel("accuracy on dev")

"""The HTML page of the rule report: the worst rules first, then figures, errors, correlations and tags."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from markupsafe import Markup
from numpy.typing import NDArray

from kommuna.spec.artifacts import Report
from kommuna.spec.rules import RuleSet
from kommuna.steps.labeling.report.metrics import BY_NAME
from kommuna.steps.labeling.report.questions import questions_section
from kommuna.steps.labeling.report.rule_text import highlighted
from kommuna.steps.labeling.votes.correlation import Correlation, correlation
from kommuna.steps.labeling.votes.patterns import VotePatterns
from kommuna.steps.report import ACCENT, BAD, GOOD, INK, MUTED, collapsed, link, page, plot, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POOR = 0.5  # an accuracy is marked as bad if its whole interval is below this
_SHOWN_BARS = 25  # rules in the plot of intervals
_SHOWN_RULES = 40  # rules in the correlation map
_SHOWN_PAIRS = 10
_COMPARED_RULES = 1000  # rules whose pairs are compared: memory and time are quadratic
_SHOWN_CONDITION = 60  # characters
_LEAST_PHI = 0.05  # smaller correlations are not drawn


@dataclass(frozen=True)
class DevFigures:
    """The figures on dev rows.

    Attributes:
        figure: accuracy of the weighted vote, or micro F1 where rows may have several tags.
        rule_gain: m, the gain of each rule (`Gains`).
        group_gain: the gain of each group.
        errors: the result of `rule_errors`.
        tags: the result of `tag_figures`.
    """

    figure: float
    rule_gain: NDArray[np.float64]
    group_gain: dict[str, float]
    errors: pl.DataFrame
    tags: list[tuple[str, int, float, float, str]]


def rule_page(
    figures: pl.DataFrame,
    patterns: VotePatterns,
    rules: RuleSet,
    metrics: dict[str, float],
    on_dev: DevFigures | None,
    questions: pl.DataFrame | None = None,
) -> Report:
    """Builds the page.

    Args:
        figures: the result of `rule_figures`, whose order the page has.
        patterns: the rules' votes on all rows.
        rules: the rule set.
        metrics: the metrics of `rule_report`.
        on_dev: the figures on dev rows, if there are any.
        questions: the result of `question_figures`, if there are questions to an LLM.
    """
    errors = {} if on_dev is None else {name[0]: part for name, part in on_dev.errors.group_by("rule")}
    sections: list[tuple[str, Markup]] = [("", _look_first(figures, errors, rules))]
    sections.append(("Rules, worst first", _rules_table(figures, errors, rules)))
    if questions is not None and questions.height:
        heading = "Questions to the LLM, the least worth their price first"
        sections.append((heading, questions_section(questions, rules)))
    if on_dev is not None and figures["accuracy"].is_not_null().any():
        known = figures.filter(pl.col("accuracy").is_not_null())
        shown = known.head(_SHOWN_BARS)
        of = f" ({_SHOWN_BARS} of {known.height} rules)" if known.height > shown.height else ""
        bars = plot(lambda axes: _draw_intervals(axes, shown), height=0.8 + 0.24 * shown.height)
        sections.append((f"Accuracy on dev, worst first{of}", bars))
        sections.append(("Accuracy against coverage", plot(lambda axes: _draw_scatter(axes, known))))
    if errors:
        order = [name for name in figures["rule"] if name in errors]
        parts = [_errors(name, errors[name], rules, opened=i == 0) for i, name in enumerate(order)]
        sections.append(("Errors on dev: those that no other rule corrects come first", Markup("").join(parts)))
    if len(patterns.rules) > 1:
        sections += _correlations(patterns)
    if rules.groups:
        sections.append(("Groups", _groups(figures, rules, patterns, on_dev)))
    sections.append(("Tags", _tags(patterns, on_dev) + _left(patterns)))
    return page(
        "Rule report",
        _lead(figures.row(0, named=True), on_dev, rules),
        figures=[
            ("rows", f"{patterns.rows:,}"),
            ("rules", f"{len(patterns.rules):,}"),
            *((name, f"{metrics[name]:.1%}") for name in ("coverage", "overlap", "conflict")),
            *([(f"left to {rules.otherwise}", f"{metrics['left_to_default']:.1%}")] if rules.otherwise else []),
            *([("votes right on dev", f"{metrics['dev_vote_accuracy']:.1%}")] if on_dev else []),
            *([(_figure_name(rules), f"{on_dev.figure:.1%}")] if on_dev else []),
        ],
        sections=sections,
    )


def _figure_name(rules: RuleSet) -> str:
    return "micro F1 of the weighted vote on dev" if rules.multi_label else "weighted vote right on dev"


def _lead(worst: dict[str, Any], on_dev: DevFigures | None, rules: RuleSet) -> str:
    if worst["flag"] or worst["accuracy"] is not None:
        return f"Look first at {worst['rule']}: {_why(worst, rules)}."
    return "No rule voted on a dev row." if on_dev else "Without dev rows nothing is known of the rules' accuracy."


def _why(rule: dict[str, Any], rules: RuleSet) -> str:
    if rule["flag"]:
        return f"it {rule['flag']}"
    reason = f"right in {rule['dev_right']} of {rule['dev_votes']} votes on dev, at best {rule['accuracy_high']:.0%}"
    if rule["gain"] is not None and rule["gain"] < 0:
        more = "better micro F1 on dev" if rules.multi_label else "more of dev would be right"
        reason += f"; without it {-rule['gain']:.1%} {more}"
    return reason


def _look_first(figures: pl.DataFrame, errors: dict[Any, pl.DataFrame], rules: RuleSet) -> Markup:
    """Returns the three worst rules, each with the reason and its first error."""
    parts = []
    for rule in figures.filter((pl.col("flag") != "") | pl.col("accuracy").is_not_null()).head(3).iter_rows(named=True):
        body = Markup("<p><b>{}</b> votes {}: {}.</p>").format(
            _linked(rule["rule"], errors), _for(rule["vote"]), _why(rule, rules)
        )
        if rule["rule"] in errors:
            one = errors[rule["rule"]].row(0, named=True)
            which = "whose tags are" if rules.multi_label else "which is"
            found = next(own for own in rules.rules if own.name == rule["rule"])
            message = highlighted(found, one["text"]) if one["text"] else one["key"]
            body += Markup("<p>Voted {} for “{}”, {} {}.</p>").format(one["vote"], message, which, one["truth"])
        parts.append(Markup('<div class="first">{}</div>').format(body))
    return Markup("").join(parts)


def _for(vote: str) -> str:
    return vote if vote == BY_NAME else f"for {vote}"


def _linked(name: str, errors: dict[Any, pl.DataFrame]) -> str:
    return link(name, f"errors-{name}") if name in errors else name


def _named(name: str, looks_for: str, errors: dict[Any, pl.DataFrame]) -> Markup:
    """Returns a rule's name with its condition, truncated if it is long; the tooltip has all of it."""
    shown = looks_for if len(looks_for) <= _SHOWN_CONDITION else looks_for[: _SHOWN_CONDITION - 1] + "…"
    return Markup('{}<br><code title="{}">{}</code>').format(_linked(name, errors), looks_for, shown)


def _rules_table(figures: pl.DataFrame, errors: dict[Any, pl.DataFrame], rules: RuleSet) -> Markup:
    names = {
        "rule": "rule", "group": "group", "kind": "kind", "vote": "votes for", "flag": "", "accuracy": "accuracy",
        "accuracy_low": "from", "accuracy_high": "to", "dev_votes": "dev votes", "gain": "gain", "coverage": "coverage",
        "overlap": "overlap", "conflict": "conflict", "agrees": "agrees with labels",
    }  # fmt: skip
    shown = [c for c in names if figures[c].null_count() < figures.height]
    if (figures["flag"] == "").all():
        shown.remove("flag")

    def mark(_: int, column: str, value: Any) -> str:
        if column == "" and value:
            return "bad"
        if column == "gain" and value is not None and value != 0:
            return "bad" if value < 0 else "good"
        return "bad" if column == "to" and value is not None and value < POOR else ""

    looks_for = {rule.name: rule.in_words for rule in rules.rules}
    lines = [
        [_named(value, looks_for[value], errors) if c == "rule" else value for c, value in zip(shown, row, strict=True)]
        for row in figures.select(shown).iter_rows()
    ]
    figure = "micro F1" if rules.multi_label else "accuracy"
    note = Markup("<p>Gain: what the weighted vote's {} on dev loses without the rule.</p>").format(figure)
    return table([names[c] for c in shown], lines, mark=mark, sortable=True) + (note if "gain" in shown else Markup(""))


def _errors(name: str, errors: pl.DataFrame, rules: RuleSet, *, opened: bool) -> Markup:
    texts = errors["text"].null_count() < errors.height
    rule = next(rule for rule in rules.rules if rule.name == name)
    columns = {"text" if texts else "key": "message" if texts else "row", "vote": "the rule says",
               "truth": "its tags are" if rules.multi_label else "it is",
               "assigned": "all rules say"}  # fmt: skip
    lines = errors.select(list(columns)).rows()
    if texts:
        lines = [(highlighted(rule, line[0]), *line[1:]) for line in lines]
    looks_for = Markup("<p>Looks for <code>{}</code></p>").format(rule.in_words)
    body = looks_for + table(list(columns.values()), lines)
    return collapsed(f"{name}: {errors.height}", body, anchor=f"errors-{name}", opened=opened)


def _correlations(patterns: VotePatterns) -> list[tuple[str, Markup]]:
    together = "Rules that vote together"
    if len(patterns.rules) > _COMPARED_RULES:
        patterns = _busiest(patterns)
        together += f" (of the {_COMPARED_RULES:,} that vote most)"
    found = correlation(patterns)
    strongest = np.abs(found.phi - np.diag(np.diag(found.phi))).max(axis=1)
    chosen = np.sort(np.argsort(-strongest, kind="stable")[:_SHOWN_RULES])
    chosen = chosen[strongest[chosen] >= _LEAST_PHI]
    if not len(chosen):
        return [(together, Markup("<p>No two rules vote on the same rows more than by chance.</p>"))]
    left, right = np.triu_indices(len(patterns.rules), 1)
    best = np.argsort(-np.abs(found.phi[left, right]), kind="stable")[:_SHOWN_PAIRS]
    pairs = [
        (
            patterns.rules[a],
            patterns.rules[b],
            float(found.phi[a, b]),
            int(found.together[a, b]),
            float(found.agree[a, b]),
        )
        for a, b in zip(left[best], right[best], strict=True)
        if abs(found.phi[a, b]) >= _LEAST_PHI
    ]
    side = 2.2 + 0.2 * len(chosen)
    drawn = plot(lambda axes: _draw_map(axes, patterns, found, chosen), width=side + 1, height=side)
    note = Markup(
        "<p>The larger the square, the more two rules vote on the same rows; green where their votes agree, red "
        "where they contradict each other, hollow where one votes where the other does not.</p>"
    )
    heads = ["rule", "and", "correlation", "rows with both", "same vote"]
    return [(together, note + drawn), ("The strongest pairs", table(heads, pairs))]


def _busiest(patterns: VotePatterns) -> VotePatterns:
    """Returns the patterns of only the `_COMPARED_RULES` rules that vote on most rows."""
    rows = patterns.counts @ (patterns.votes >= 0)
    own = np.sort(np.argsort(-rows, kind="stable")[:_COMPARED_RULES])
    return replace(patterns, votes=patterns.votes[:, own], rules=tuple(patterns.rules[j] for j in own))


def _groups(figures: pl.DataFrame, rules: RuleSet, patterns: VotePatterns, on_dev: DevFigures | None) -> Markup:
    lines = []
    for group in rules.groups:
        own = [j for j, rule in enumerate(rules.rules) if rule.group == group]
        rows = int(patterns.counts[(patterns.votes[:, own] >= 0).any(axis=1)].sum())
        part = figures.filter(pl.col("group") == group)
        votes, right = (int(part[c].sum()) for c in ("dev_votes", "dev_right"))
        lines.append((group, len(own), rows / max(patterns.rows, 1), right / votes if votes else None,
                      on_dev.group_gain[group] if on_dev else None))  # fmt: skip
    lines.sort(key=lambda line: (line[4] if line[4] is not None else 0.0, line[2]))
    return table(["group", "rules", "coverage", "accuracy of votes", "gain"], lines)


def _tags(patterns: VotePatterns, on_dev: DevFigures | None) -> Markup:
    counts: dict[str, tuple[int, int]] = {}
    for t, tag in enumerate(patterns.tags):
        votes = patterns.votes == t
        counts[tag] = (int(votes.any(axis=0).sum()), int(patterns.counts[votes.any(axis=1)].sum()))
    heads = ["tag", "rules", "rows with a vote", "share"]
    n = max(patterns.rows, 1)
    if on_dev is None:
        lines = [(tag, few, rows, rows / n) for tag, (few, rows) in counts.items()]
        return table(heads, sorted(lines, key=lambda line: line[2]))
    dev_figures = {tag: line for tag, *line in on_dev.tags}
    order = [*dev_figures, *(tag for tag in counts if tag not in dev_figures)]
    rows = [(tag, *counts[tag], counts[tag][1] / n, *dev_figures.get(tag, [None] * 4)) for tag in order]
    heads += ["dev rows", "covered on dev", "F1 on dev", "taken for"]
    return table(heads, rows, mark=lambda _, c, v: "bad" if c == "F1 on dev" and v is not None and v < POOR else "")


def _left(patterns: VotePatterns) -> Markup:
    """Returns a sentence on the rows that have the default tag; empty without a default tag."""
    if patterns.default is None:
        return Markup("")
    rows = int(patterns.counts[patterns.left].sum())
    return Markup("<p>No rule votes on {} of {} rows: they have the default tag {}.</p>").format(
        f"{rows:,}", f"{patterns.rows:,}", patterns.tags[patterns.default]
    )


def _draw_intervals(axes: Axes, rules: pl.DataFrame) -> None:
    place = np.arange(rules.height)[::-1]
    low, high, share = (rules[c].to_numpy() for c in ("accuracy_low", "accuracy_high", "accuracy"))
    axes.hlines(place, low, high, color=MUTED, linewidth=3, alpha=0.5)
    axes.scatter(
        share,
        place,
        color=[BAD if top < POOR else GOOD if bottom > POOR else INK for bottom, top in zip(low, high, strict=True)],
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
        # The default formatter uses math text, which is slow.
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:g}")
        axes.xaxis.set_minor_formatter(lambda share, _: "")
    axes.set_ylim(-0.05, 1.05)
    axes.set_xlabel("coverage (share of rows, logarithmic); size: votes on dev")
    axes.set_ylabel("accuracy on dev")


def _draw_map(axes: Axes, patterns: VotePatterns, found: Correlation, chosen: NDArray[np.intp]) -> None:
    phi = found.phi[np.ix_(chosen, chosen)]
    agree = found.agree[np.ix_(chosen, chosen)]
    down, across = np.nonzero((np.abs(phi) >= _LEAST_PHI) & ~np.eye(len(chosen), dtype=bool))
    size = 20 + 160 * np.abs(phi[down, across])
    colour = np.where(agree[down, across] >= POOR, GOOD, BAD)
    positive = phi[down, across] > 0
    axes.scatter(across[positive], down[positive], s=size[positive], c=colour[positive], marker="s", linewidths=0)
    axes.scatter(across[~positive], down[~positive], s=size[~positive], facecolors="none", edgecolors=MUTED, marker="s")
    names = [patterns.rules[j] for j in chosen]
    axes.set_xticks(range(len(chosen)), names, rotation=90)
    axes.set_yticks(range(len(chosen)), names)
    axes.set_xlim(-0.5, len(chosen) - 0.5)
    axes.set_ylim(len(chosen) - 0.5, -0.5)
    axes.set_aspect("equal")

"""The report of a refinement: F1, coverage, added and removed rules, and cost per round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import polars as pl

from kommuna.spec.artifacts import Report
from kommuna.steps.labeling.refine.rounds import Round, WrittenRule
from kommuna.steps.report import ACCENT, BAD, GOOD, INK, MUTED, page, plot, table

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

_COST = ("llm_requests", "llm_tokens_in", "llm_tokens_out", "llm_cost")


def rounds_table(rounds: Sequence[Round], gold: Sequence[float] | None) -> pl.DataFrame:
    """Returns one row per round.

    Args:
        rounds: round 0 and all further rounds.
        gold: macro F1 on gold after each round; None without gold.

    Returns:
        Columns `round`, `proposed`, `rules_in`, `rules_out`, `rules`, `dev_f1`, `gold_f1` (null without gold),
        `coverage`, `seconds`, and the usage of the LLM, 0 without one.
    """
    return pl.DataFrame(
        {
            "round": [made.number for made in rounds],
            "proposed": [made.proposed for made in rounds],
            "rules_in": [len(made.written) for made in rounds],
            "rules_out": [len(made.out) for made in rounds],
            "rules": [made.rules for made in rounds],
            "dev_f1": [made.f1 for made in rounds],
            "gold_f1": pl.Series(gold if gold is not None else [None] * len(rounds), dtype=pl.Float64),
            "coverage": [made.coverage for made in rounds],
            "seconds": [made.seconds for made in rounds],
            **{name: [made.cost.get(name, 0.0) for made in rounds] for name in _COST},
        }
    )


def refine_report(
    rounds: Sequence[Round],
    written: Sequence[WrittenRule],
    coverage: Mapping[str, float],
    gold: Sequence[float] | None,
    *,
    cost: float,
) -> Report:
    """Builds the HTML page.

    Args:
        rounds: round 0 and all further rounds.
        written: the rules of the loop that are present at the end.
        coverage: the share of messages on which each rule votes, by its name.
        gold: macro F1 on gold after each round.
        cost: the money that the LLMs were billed, also outside of rounds.
    """
    figures = rounds_table(rounds, gold)
    start, end = rounds[0], rounds[-1]
    lead = f"{len(written)} rules were written in {len(rounds) - 1} rounds."
    for made in rounds:
        lead += "".join(f" Round {made.number}: {line}." for line in made.ended)
    top = [
        ("macro F1 on dev, start", f"{start.f1:.3f}"),
        ("macro F1 on dev, end", f"{end.f1:.3f}"),
        *([("macro F1 on gold, start", f"{gold[0]:.3f}"), ("on gold, end", f"{gold[-1]:.3f}")] if gold else []),
        ("coverage", f"{end.coverage:.1%}"),
        ("cost", f"{cost:.2f}"),
    ]
    sections: list[tuple[str, Markup]] = [
        ("F1 and coverage by round", plot(lambda axes: _draw_scores(axes, figures))),
        ("Rules kept and dropped by round", plot(lambda axes: _draw_rules(axes, figures), height=2.6)),
        ("Cost by round", plot(lambda axes: _draw_cost(axes, figures), height=2.6)),
        ("Rounds", table(figures.columns, figures.rows())),
        ("Rejected proposals", table(["reason", "proposals"], _refused(rounds))),
        (
            "Rules that were written",
            table(
                ["rule", "tag", "kind", "round", "right", "of", "at least", "F1 gain", "coverage", "origin"],
                [_line(one, coverage) for one in sorted(written, key=lambda one: -one.gain)],
            ),
        ),
    ]
    return page("Refined rules", lead, figures=top, sections=sections)


def _line(one: WrittenRule, coverage: Mapping[str, float]) -> tuple[object, ...]:
    rule = one.rule
    tag = f"not {rule.tag}" if rule.against else rule.tag
    return (
        rule.name, tag, rule.kind, one.round, one.right, one.cast, one.low, one.gain, coverage[rule.name], one.origin
    )  # fmt: skip


def _refused(rounds: Sequence[Round]) -> list[tuple[str, int]]:
    reasons: Counter[str] = Counter()
    for made in rounds:
        reasons.update(made.refused)
    return reasons.most_common()


def _draw_scores(axes: Axes, figures: pl.DataFrame) -> None:
    x = figures["round"].to_list()
    axes.plot(x, figures["dev_f1"].to_list(), color=ACCENT, marker="o", label="macro F1 on dev, cross-fitted")
    if figures["gold_f1"].null_count() == 0:
        axes.plot(x, figures["gold_f1"].to_list(), color=GOOD, marker="o", label="macro F1 on gold")
    axes.plot(x, figures["coverage"].to_list(), color=MUTED, linestyle="--", label="coverage")
    axes.set_ylim(0, 1)
    axes.set_xticks(x)
    axes.set_xlabel("round")
    axes.legend(loc="lower right", labelcolor=INK)


def _draw_rules(axes: Axes, figures: pl.DataFrame) -> None:
    x = figures["round"].to_list()
    axes.bar(x, figures["rules_in"].to_list(), color=GOOD, label="in")
    axes.bar(x, [-count for count in figures["rules_out"].to_list()], color=BAD, label="out")
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.set_xticks(x)
    axes.set_xlabel("round")
    axes.set_ylabel("rules")
    axes.legend(labelcolor=INK)


def _draw_cost(axes: Axes, figures: pl.DataFrame) -> None:
    x = figures["round"].to_list()
    paid = figures["llm_cost"].sum() > 0
    axes.bar(x, figures["llm_cost" if paid else "seconds"].to_list(), color=ACCENT)
    axes.set_xticks(x)
    axes.set_xlabel("round")
    axes.set_ylabel("cost of the LLM" if paid else "seconds")

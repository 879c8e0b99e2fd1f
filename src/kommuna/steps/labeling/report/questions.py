"""The part of the rule report about questions to an LLM: what each is worth on dev, and what it costs."""

from __future__ import annotations

from typing import Any

import polars as pl
from markupsafe import Markup

from kommuna.spec.rules import RuleSet
from kommuna.steps.labeling.rules.ask.questions import COLUMNS
from kommuna.steps.report import table

_SUMS = ("yes", "no", "unknown", "asked", "tokens", "cost")


def question_figures(
    questions: pl.LazyFrame, figures: pl.DataFrame, grades: dict[str, tuple[float | None, float | None]]
) -> pl.DataFrame:
    """Returns one row per question: what it is worth on dev, and what 1,000 messages cost.

    Args:
        questions: the tables `questions` of `apply_rules`, one after the other.
        figures: the result of `rule_figures`.
        grades: by rule, the accuracy on dev of its votes with a high and with a low confidence.

    Returns:
        `COLUMNS`, summed by rule; `tokens_per_1000`, `cost_per_1000` (null if all answers were cached); of `figures`
        `vote`, `dev_votes`, `accuracy`, `gain`; `sure`, `unsure` (`grades`). The question with the least gain for its
        cost comes first.
    """
    summed = (
        questions.group_by("rule", maintain_order=True)
        .agg(pl.col(name).sum() if name in _SUMS else pl.col(name).last() for name in COLUMNS if name != "rule")
        .collect()
    )
    price = [
        pl.when(pl.col("asked") > 0).then(1000 * pl.col(name) / pl.col("asked")).alias(f"{name}_per_1000")
        for name in ("tokens", "cost")
    ]
    sure = pl.DataFrame(
        [(rule, *both) for rule, both in grades.items()],
        schema={"rule": pl.String, "sure": pl.Float64, "unsure": pl.Float64},
        orient="row",
    )
    found = (
        summed.with_columns(price)
        .join(
            figures.select("rule", "vote", "dev_votes", "accuracy", "gain"),
            on="rule",
            how="left",
            maintain_order="left",
        )
        .join(sure, on="rule", how="left", maintain_order="left")
    )
    worth = pl.col("gain") / pl.max_horizontal("cost_per_1000", "tokens_per_1000", pl.lit(1e-9))
    return found.sort(worth, nulls_last=True, maintain_order=True)


def questions_section(found: pl.DataFrame, rules: RuleSet) -> Markup:
    """Returns the table of questions, the least worth its price first, and what each tag's questions cost.

    Args:
        found: the result of `question_figures`.
        rules: the rule set.
    """
    names = {
        "question": "question", "vote": "votes for", "accuracy": "accuracy on dev", "dev_votes": "dev votes",
        "sure": "where it is sure", "unsure": "where it is not", "gain": "gain", "yes": "yes", "no": "no",
        "unknown": "don't know", "asked": "asked now", "cost": "cost", "tokens_per_1000": "tokens per 1,000 messages",
        "cost_per_1000": "cost per 1,000 messages",
    }  # fmt: skip
    shown = [name for name in names if found[name].null_count() < found.height]

    def mark(_: int, column: str, value: Any) -> str:
        return "bad" if column == "gain" and value is not None and value <= 0 else ""

    lines = [[_cell(name, row[name]) for name in shown] for row in found.iter_rows(named=True)]
    prompts = found.select("model", "prompt", "prompt_version").unique(maintain_order=True).rows()
    asked = Markup(" ").join(
        Markup("Asked of {} with the prompt <code>{}</code>, version <code>{}</code>.").format(*prompt)
        for prompt in prompts
    )
    idle = found.filter(pl.col("gain") <= 0)
    advice = Markup("")
    if idle.height and found["cost_per_1000"].null_count() < found.height:
        advice = Markup(
            "<p>{} of {} questions gain nothing on dev: without them 1,000 messages cost {} less.</p>"
        ).format(idle.height, found.height, f"{idle['cost_per_1000'].sum():.4g}")
    return (
        Markup("<p>{} An answer's cost is an equal share of what its requests cost.</p>").format(asked)
        + advice
        + table([names[name] for name in shown], lines, mark=mark, sortable=True)
        + _by_tag(found, rules)
    )


def _cell(name: str, value: Any) -> Any:
    if (value is not None and name.endswith("per_1000")) or name == "cost":
        return f"{value:.4g}"
    return value


def _by_tag(found: pl.DataFrame, rules: RuleSet) -> Markup:
    tag_of = {rule.name: rule.tag for rule in rules.rules}
    tags = (
        found.with_columns(pl.col("rule").replace_strict(tag_of, default=None).alias("tag"))
        .group_by("tag", maintain_order=True)
        .agg(pl.len().alias("questions"), pl.col("gain").sum(), pl.col("tokens_per_1000", "cost_per_1000").sum())
    )
    lines = [
        (tag, number, gain, f"{tokens:.4g}", f"{cost:.4g}") for tag, number, gain, tokens, cost in tags.iter_rows()
    ]
    return table(["tag", "questions", "gain", "tokens per 1,000 messages", "cost per 1,000 messages"], lines)

"""The table of questions: with which prompt each was asked, what was answered, and what that cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from kommuna.spec.rules import AskRule
from kommuna.steps.labeling.rules.ask.prompt import NO, UNKNOWN, YES, Prompt
from kommuna.steps.llm.ledger import Billed

COLUMNS: dict[str, type[pl.DataType]] = {
    "rule": pl.String,
    "question": pl.String,
    "model": pl.String,
    "prompt": pl.String,
    "prompt_version": pl.String,
    "yes": pl.Int64,
    "no": pl.Int64,
    "unknown": pl.Int64,
    "asked": pl.Int64,
    "tokens": pl.Float64,
    "cost": pl.Float64,
}


def no_questions() -> pl.DataFrame:
    """Returns the table of a rule set without `ask` rules."""
    return pl.DataFrame(schema=COLUMNS)


def questions_table(
    ask_rules: Sequence[AskRule],
    asked: Mapping[str, str],
    model: str,
    prompt: Prompt,
    answers: pl.DataFrame,
    known: pl.DataFrame,
    billed: Billed,
) -> pl.DataFrame:
    """Returns one row per `ask` rule.

    A request has several questions and messages, so each answer has an equal share of what all were billed.

    Args:
        ask_rules: the rules.
        asked: the question of each rule, as it was sent.
        model: the model's name.
        prompt: the instructions.
        answers: all answers: `question` (position among the distinct questions), `answer`.
        known: the answers among them that were cached.
        billed: what the others were billed.

    Returns:
        Columns `COLUMNS`. `yes`, `no`, `unknown`: distinct texts by answer; `asked`: those that were not cached, to
        which `tokens` and `cost` belong.
    """
    number = {question: i for i, question in enumerate(dict.fromkeys(asked.values()))}
    counts = answers.group_by("question", "answer").len().iter_rows()
    by_pair = {(question, answer): count for question, answer, count in counts}
    cached = dict(known.group_by("question").len().iter_rows())
    new = max(answers.height - known.height, 1)
    lines = []
    for rule in ask_rules:
        own = number[asked[rule.name]]
        yes, no, unknown = (by_pair.get((own, answer), 0) for answer in (YES, NO, UNKNOWN))
        here = yes + no + unknown - cached.get(own, 0)
        lines.append(
            (rule.name, asked[rule.name], model, prompt.language, prompt.version, yes, no, unknown, here,
             billed.tokens * here / new, billed.money * here / new)
        )  # fmt: skip
    return pl.DataFrame(lines, schema=COLUMNS, orient="row")

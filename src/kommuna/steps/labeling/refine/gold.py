"""Macro F1 on gold after each round: read once, after the loop; nothing is chosen by it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from kommuna.errors import MissingColumn, nearest
from kommuna.spec.rules import Rule
from kommuna.steps.labeled_rows import read_labeled_rows
from kommuna.steps.labeling.refine.field import Field, truth_of
from kommuna.steps.labeling.refine.judge import macro_f1, told_by
from kommuna.steps.labeling.refine.loop import rules_after
from kommuna.steps.labeling.refine.rounds import Round


def gold_f1(
    field: Field, given: Sequence[Rule], rounds: Sequence[Round], gold: pl.LazyFrame, *, label: str, seed: int
) -> list[float]:
    """What the label model alone says of the gold rows, with the rules as they were after each round.

    It is fitted as `label_messages` would be: on all the rules' votes on dev.

    Returns:
        Macro F1, 0 to 1, of each round; a row without a vote has the default tag, or is wrong.
    Raises:
        MissingColumn, SchemaDrift, DuplicateKeys, RulesError: gold lacks a column, or holds a wrong value.
    """
    names = gold.collect_schema().names()
    for column in (field.key, field.text, label):
        if column not in names:
            raise MissingColumn(f"the gold rows have no column '{column}'{nearest(column, names)}", where="gold")
    rows = read_labeled_rows(gold, several_tags=field.several_tags, key=field.key, label=label, what="gold")
    truth = truth_of(rows, field.tags, several_tags=field.several_tags, key=field.key, label=label)
    ever = {rule.name: rule for rule in (*given, *(one.rule for made in rounds for one in made.written))}
    place = {name: j for j, name in enumerate(ever)}
    dev, sample, asked = (field.votes(table, list(ever.values())) for table in (field.dev, field.sample, rows))
    scores: list[float] = []
    for number, made in enumerate(rounds):
        if number and not made.written:
            scores.append(scores[-1])
            continue
        kept, written = rules_after(given, rounds[: number + 1])
        own = np.array([place[rule.name] for rule in (*kept, *(one.rule for one in written))], dtype=np.intp)
        told = told_by(field, dev[:, own], sample[:, own], asked[:, own], seed=seed)
        scores.append(macro_f1(told, truth))
    return scores

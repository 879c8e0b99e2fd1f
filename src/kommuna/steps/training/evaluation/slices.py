"""Slices: named parts of the gold rows, such as one channel, each with its own figures."""

from __future__ import annotations

import re
from collections.abc import Mapping

import polars as pl

from kommuna.errors import RulesError, SpecError
from kommuna.spec.rules import SqlRule
from kommuna.steps.labeling.rules.expressions import condition_of
from kommuna.steps.statistics import wilson
from kommuna.steps.training.evaluation.scores import Chosen, SliceScore, quality


def slice_scores(
    slices: Mapping[str, str],
    gold: pl.DataFrame,
    truth: Chosen,
    chosen: Chosen,
    champion: Chosen | None,
    *,
    several: bool,
) -> tuple[SliceScore, ...]:
    """Returns the figures of each slice; a row where the condition is null is not in it.

    Args:
        slices: a SQL condition over the columns of gold, by name.
        gold: n gold rows.
        truth: `n x k`.
        chosen: `n x k`, the model's tags.
        champion: `n x k`, the champion's tags; None without one.
        several: whether a row may have several tags.

    Raises:
        SpecError: a name is not a word, or a condition is invalid.
        MissingColumn: a condition names a column that gold lacks.
    """
    found = []
    for name, condition in slices.items():
        rows = gold.select(_condition(name, condition, gold.schema).fill_null(False)).to_series().to_numpy()
        count = int(rows.sum())
        right = (truth[rows] == chosen[rows]).all(axis=1)
        low, high = wilson(int(right.sum()), count)
        figures = quality(truth[rows], chosen[rows], several=several) if count else {}
        theirs = None if champion is None or not count else quality(truth[rows], champion[rows], several=several)
        one = SliceScore(
            name=name,
            condition=condition,
            rows=count,
            accuracy=figures.get("accuracy"),
            low=low,
            high=high,
            f1_macro=figures.get("f1_macro"),
            champion_accuracy=theirs["accuracy"] if theirs else None,
        )
        found.append(one)
    return tuple(found)


def _condition(name: str, condition: str, schema: pl.Schema) -> pl.Expr:
    if not re.fullmatch(r"[^\W\d]\w*", name):
        raise SpecError(f"'{name}' is not a name of a slice", fix="use letters, digits and '_', such as web_form")
    try:
        return condition_of(SqlRule(name=name, tag=name, sql=condition), schema).expression
    except RulesError as error:
        raise SpecError(error.what.replace("rule '", "slice '", 1), where="slices", fix=error.fix) from None

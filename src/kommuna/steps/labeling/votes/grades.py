"""Grades of votes: where a rule is less sure than usual, its vote counts as that of a rule of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from kommuna.spec.rules import RuleSet

_CONFIDENCE = ":confidence"  # no rule's name has a colon
_UNSURE = ":unsure"
_SHARE = 0.25  # of a rule's votes: those with the lowest confidence


def confidence_column(rule: str) -> str:
    """Returns the name of the column with the confidence of a rule's votes.

    >>> confidence_column("lost_card")
    'lost_card:confidence'
    """
    return rule + _CONFIDENCE


def unsure_part(rule: str) -> str:
    """Returns the name that the less sure votes of a rule have."""
    return rule + _UNSURE


def is_confidence(column: str) -> bool:
    """Whether a column of a votes table has confidences instead of votes."""
    return column.endswith(_CONFIDENCE)


@dataclass(frozen=True)
class Grades:
    """Splits the votes of rules that have a confidence in two: the less sure quarter, and the others.

    A confidence is how sure an LLM is, not how often it is right. So it gives no weight by itself: the label model
    weighs both parts as those of two rules, by the dev rows.

    Attributes:
        rules: the rules, and after them one more for the less sure votes of each rule in `cuts`.
        cuts: by rule, the confidence below which a vote is less sure.
    """

    rules: RuleSet
    cuts: Mapping[str, float]

    @classmethod
    def of(cls, votes: pl.LazyFrame, rules: RuleSet) -> Grades:
        """Finds the cuts: quantiles of the confidences in a votes table. No label is used.

        Args:
            votes: the votes on the rows to label, see `apply_rules`.
            rules: the rule set that cast the votes.
        """
        there = set(votes.collect_schema().names())
        graded = [rule for rule in rules.rules if confidence_column(rule.name) in there]
        if not graded:
            return cls(rules, {})
        figures = votes.select(
            figure.alias(f"{name}:{what}")
            for name in (rule.name for rule in graded)
            for what, figure in _figures(name).items()
        ).collect(engine="streaming")
        cuts = {
            rule.name: cut
            for rule in graded
            if (cut := figures[f"{rule.name}:cut"][0]) is not None and figures[f"{rule.name}:least"][0] < cut
        }
        unsure = tuple(
            rule.model_copy(update={"name": unsure_part(rule.name)}) for rule in rules.rules if rule.name in cuts
        )
        return cls(rules.model_copy(update={"rules": (*rules.rules, *unsure)}), cuts)

    def split(self, votes: pl.LazyFrame) -> pl.LazyFrame:
        """Moves the less sure votes of a table to columns of their own.

        Args:
            votes: votes of the same rules; votes without a confidence stay where they are.
        """
        there = set(votes.collect_schema().names())
        moved = {
            name: pl.col(confidence_column(name)) < cut if confidence_column(name) in there else pl.lit(False)
            for name, cut in self.cuts.items()
            if name in there
        }
        return votes.with_columns(
            part
            for name, unsure in moved.items()
            for part in (
                pl.when(~unsure.fill_null(False)).then(pl.col(name)).alias(name),
                pl.when(unsure).then(pl.col(name)).alias(unsure_part(name)),
            )
        )


def _figures(rule: str) -> dict[str, pl.Expr]:
    sure = pl.col(confidence_column(rule)).filter(pl.col(rule).is_not_null()).cast(pl.Float64)
    return {"cut": sure.quantile(_SHARE, interpolation="higher"), "least": sure.min()}

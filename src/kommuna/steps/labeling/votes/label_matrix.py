"""Converts votes to Snorkel's label matrix (n x m integers, -1 abstains) and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kommuna.errors import RulesError
from kommuna.spec.rules import RuleSet
from kommuna.steps.frames import lazy_table
from kommuna.steps.labeling.votes.patterns import vote_patterns


def to_matrix(votes: pl.DataFrame | pl.LazyFrame, rules: RuleSet, *, key: str = "id") -> NDArray[np.int64]:
    """Returns the n x m label matrix of a votes table, with rows and rules in its order.

    Args:
        votes: `key` and one column per rule, from `apply_rules`.
        rules: the rule set that cast the votes.
        key: the column that names a row.

    Raises:
        RulesError: a rule votes against a tag, or rows may have several tags: the matrix cannot represent this.
    """
    against = next((rule.name for rule in rules.rules if rule.against), None)
    if rules.multi_label or against:
        what = "rows may have several tags" if rules.multi_label else f"rule '{against}' votes against a tag"
        raise RulesError(f"a label matrix cannot hold these votes: {what}", fix="make one matrix of 1 and 0 per tag")
    return vote_patterns(lazy_table(votes, "votes").collect(), rules, key=key).row_votes().astype(np.int64)


def from_matrix(
    matrix: NDArray[np.integer], rules: RuleSet, *, keys: Sequence[object] | None = None, key: str = "id"
) -> pl.DataFrame:
    """Returns the votes table of an n x m label matrix.

    Args:
        matrix: -1 abstains, any other number is the index of a tag in `rules.tags`.
        rules: the m rules and the tags.
        keys: n keys; 0 to n - 1 if omitted.
        key: the name of the key column.

    Raises:
        RulesError: the shape or a value does not fit the rules.
    """
    m, k = len(rules.rules), len(rules.tags)
    if matrix.ndim != 2 or matrix.shape[1] != m:
        raise RulesError(
            f"the label matrix has the shape {matrix.shape}, but there are {m} rules", fix="pass one column per rule"
        )
    wrong = np.argwhere((matrix < -1) | (matrix >= k))
    if len(wrong):
        row, column = (int(i) for i in wrong[0])
        raise RulesError(
            f"the label matrix has {matrix[row, column]} in row {row}, rule '{rules.rules[column].name}': "
            f"values are -1 to {k - 1}",
            where=f"{len(wrong)} wrong values",
        )
    tags = pl.Series(rules.tags, dtype=pl.Enum(rules.categories))
    columns = {}
    for j, rule in enumerate(rules.rules):
        indices = pl.Series(matrix[:, j], dtype=pl.Int64)
        columns[rule.name] = tags.gather(indices.set(indices < 0, None))
    return pl.DataFrame({key: keys if keys is not None else range(len(matrix)), **columns})

"""Keyword rules: every keyword of every rule in one pass of one automaton over the folded text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from kommuna.errors import RulesError
from kommuna.spec.rules import Rule
from kommuna.steps.labeling.fold import keyword_line, token_line


def keyword_hits(rules: Sequence[Rule], text: pl.Expr) -> pl.Expr:
    """Which keyword rules fire, as one expression.

    Args:
        rules: rules of the kind `any`.
        text: the String column.
    Returns:
        A Struct with one Boolean field a rule, named as the rule; false where the text is null.
    Raises:
        RulesError: a keyword has no letter, digit or sign.
    """
    names = [rule.name for rule in rules]
    keywords, first, owners = _automaton(rules)
    dtype = pl.Struct(dict.fromkeys(names, pl.Boolean))
    keyword_ids = pl.Enum(keywords)
    owned = np.diff(first)

    def hits(lines: pl.Series) -> pl.Series:
        found = lines.str.extract_many(keywords, overlapping=True)
        lengths = found.list.len().fill_null(0).to_numpy()
        rows = np.repeat(np.arange(len(lines)), lengths)
        ids = found.explode(empty_as_null=False, keep_nulls=False).cast(keyword_ids).to_physical().to_numpy()
        # Each hit belongs to the rules owners[first[id]:first[id + 1]]: written out, one line a hit and rule.
        width = owned[ids]
        ends = np.cumsum(width)
        place = np.arange(width.sum()) + np.repeat(first[ids] - (ends - width), width)
        fired = np.zeros((len(names), len(lines)), dtype=np.bool_)
        fired[owners[place], np.repeat(rows, width)] = True
        return pl.DataFrame({name: fired[j] for j, name in enumerate(names)}).to_struct()

    return token_line(text).map_batches(hits, return_dtype=dtype, is_elementwise=True)


def _automaton(rules: Sequence[Rule]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Distinct keywords, and for each the rules that own it: `owners[first[i]:first[i + 1]]`."""
    owners: dict[str, list[int]] = {}
    for j, rule in enumerate(rules):
        for keyword in rule.any or ():
            line = keyword_line(keyword)
            if not line:
                raise RulesError(
                    f"rule '{rule.name}': the keyword {keyword!r} has no letter, digit or sign to look for",
                    mend="remove it; spaces and hyphens only separate words",
                )
            if j not in owners.setdefault(line, []):
                owners[line].append(j)
    first = np.cumsum([0] + [len(rules_of) for rules_of in owners.values()])
    return list(owners), first, np.array([j for rules_of in owners.values() for j in rules_of], dtype=np.int64)

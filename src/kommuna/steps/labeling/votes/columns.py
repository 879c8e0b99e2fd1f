"""Votes as people hold them, a matrix or a table of any kind, as the codes that label models take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kommuna.errors import DataError, MissingColumn, RulesError, SchemaDrift, nearest
from kommuna.spec.rules import RuleSet
from kommuna.steps.frames import is_pandas, lazy_table
from kommuna.steps.labeling.votes.patterns import ABSTAIN, Codes, VotePatterns, distinct, tag_codes

_SEVERAL = "label_messages labels rows that may have several tags"


@dataclass(frozen=True)
class VoteColumns:
    """Votes of m rules on n rows.

    Attributes:
        columns: m arrays of n codes, see `VotePatterns.votes`.
        rules: the m rules' names.
        tags: the k tags; None where the votes are numbers without names.
        k: how many tags there are.
    """

    columns: list[Codes]
    rules: tuple[str, ...]
    tags: tuple[str, ...] | None
    k: int

    def __len__(self) -> int:
        return len(self.columns[0])

    def patterns(self) -> VotePatterns:
        """The distinct rows of votes."""
        votes, counts, row_pattern = distinct(self.columns)
        return VotePatterns(votes, counts, row_pattern, self.tags or tuple(str(t) for t in range(self.k)), self.rules)


def named_tags(tags: Sequence[str] | RuleSet | None, cardinality: int | None) -> tuple[tuple[str, ...] | None, int]:
    """The tags by name, if they have names, and how many there are; 0 where the votes have to tell.

    Raises:
        RulesError: they are no tags, contradict the cardinality, or rows may have several of them.
    """
    if isinstance(tags, RuleSet):
        if tags.several_tags:
            raise RulesError("a LabelModel knows rows of one tag, but the rule set has several_tags", fix=_SEVERAL)
        tags = tags.tags
    if isinstance(tags, str) or not all(isinstance(tag, str) for tag in tags or ()):
        raise RulesError(f"tags are a list of str, not {tags!r}", fix="leave tags out where votes are numbers")
    named = None if tags is None else tuple(str(tag) for tag in tags)
    if named is not None and len(set(named)) < max(len(named), 1):
        raise RulesError(f"tags must be there, each once: {list(named)}")
    if cardinality is not None and (cardinality < 1 or (named is not None and cardinality != len(named))):
        raise RulesError(
            f"cardinality is {cardinality}, " + (f"but there are {len(named)} tags" if named else "not 1+")
        )
    return named, cardinality or len(named or ())


def vote_columns(
    votes: Any, *, tags: tuple[str, ...] | None, k: int, key: str | None, rules: tuple[str, ...] | None = None
) -> VoteColumns:
    """Reads votes.

    Args:
        votes: an n x m matrix of whole numbers, -1 abstains; or a table (see `lazy_table`; the result of
            `apply_rules` too) with one column per rule, of tags by name, or of numbers as in a matrix; null abstains.
        tags: their names; None: those of the table's Enums, or none.
        k: how many tags there are; 0: as many as tags have names, or as the highest number says, two at least.
        key: a column that does not belong to a rule, if the table has it.
        rules: the rules to read, in this order; None: all columns.

    Raises:
        RulesError: a vote is no tag.
        DataError, MissingColumn, SchemaDrift: the votes are no matrix or table of votes.
    """
    if isinstance(votes, pl.DataFrame | pl.LazyFrame | str | Path) or is_pandas(votes) or hasattr(votes, "_fields"):
        series = _series(lazy_table(votes, "votes").collect(engine="streaming"), key, rules)
    else:
        series = _of_matrix(votes, rules)
    if not series:
        raise DataError("the votes have no column: there is no rule", where="votes")
    if tags is None and rules is None:
        tags = _enum_tags(series)
        if tags and k and k != len(tags):
            raise RulesError(f"cardinality is {k}, but the votes name {len(tags)} tags", where="votes")
    k = k or len(tags or ())
    columns = [_codes(column, tags, k) for column in series]
    most = max(int(column.max(initial=ABSTAIN)) for column in columns)
    return VoteColumns(columns, tuple(column.name for column in series), tags, k or max(most + 1, 2))


def label_places(labels: Any, tags: tuple[str, ...] | None, k: int) -> NDArray[np.int64]:
    """True tags as places of tags; -1 where there is none.

    Args:
        labels: d tags by name, or their places where tags have no names; null, NaN or -1 is none.
        tags: the tags' names; None: they have none.
        k: how many tags there are; 0: not known.

    Raises:
        RulesError: a label is no tag.
    """
    values = list(labels.to_list() if hasattr(labels, "to_list") else np.asarray(labels, dtype=object).reshape(-1))
    known: dict[Any, int] = {tag: i for i, tag in enumerate(tags or ())}
    found = np.full(len(values), ABSTAIN, dtype=np.int64)
    for row, value in enumerate(values):
        if value is None or value != value:
            continue
        if tags is None and not isinstance(value, bool | str) and value == int(value) and -1 <= value < (k or 2**14):
            found[row] = int(value)
        elif value in known:
            found[row] = known[value]
        else:
            raise RulesError(
                f"labels: {value!r} is not one of the tags{nearest(str(value), tags or ())}",
                where=f"row {row}",
                fix=f"the tags are {', '.join((tags or ())[:10])}" if tags else "give numbers from 0, as in the votes",
            )
    return found


def _series(table: pl.DataFrame, key: str | None, rules: tuple[str, ...] | None) -> list[pl.Series]:
    there = {column.name: column for column in table.get_columns() if column.name != key}
    if rules is None:
        return list(there.values())
    missing = [name for name in rules if name not in there]
    if missing:
        raise MissingColumn(
            f"the votes have no column for rule '{missing[0]}'{nearest(missing[0], there)}",
            where=f"votes: {', '.join(list(there)[:5])} …",
            fix="give the votes of the rules that the model was fitted with",
        )
    return [there[name] for name in rules]


def _of_matrix(votes: Any, rules: tuple[str, ...] | None) -> list[pl.Series]:
    matrix = np.asarray(votes)
    if matrix.ndim != 2 or matrix.dtype.kind not in "iuf":
        raise DataError(
            f"votes are neither a matrix of whole numbers nor a table, but {matrix.dtype} of shape {matrix.shape}",
            where="votes",
            fix="give n x m numbers (-1 abstains), or a table with one column per rule",
        )
    names = rules or tuple(f"rule_{j}" for j in range(matrix.shape[1]))
    if len(names) != matrix.shape[1]:
        raise DataError(f"the votes have {matrix.shape[1]} columns, but there are {len(names)} rules", where="votes")
    return [pl.Series(name, column) for name, column in zip(names, np.ascontiguousarray(matrix.T), strict=True)]


def _enum_tags(series: list[pl.Series]) -> tuple[str, ...] | None:
    """The tags that Enums of votes name, as `apply_rules` writes them; None where there is no Enum."""
    found = {tuple(column.dtype.categories): column.name for column in series if isinstance(column.dtype, pl.Enum)}
    if len(found) > 1:
        one, other, *_ = found.values()
        raise SchemaDrift(
            f"votes of rules '{one}' and '{other}' are of different Enums",
            where="votes",
            fix="name the tags: LabelModel(tags=[...])",
        )
    return tuple(tag for categories in found for tag in categories if not tag.startswith("!")) or None


def _codes(votes: pl.Series, tags: tuple[str, ...] | None, k: int) -> Codes:
    if votes.dtype == pl.Int8 and votes.null_count():
        raise RulesError(
            f"votes of rule '{votes.name}' are Int8 with nulls, as where rows may have several tags",
            where="votes",
            fix=f"{_SEVERAL}; if these are places of tags, cast them to Int64",
        )
    if votes.dtype.is_numeric():
        return _numbered(votes, k)
    if votes.dtype == pl.Null:
        return np.full(len(votes), ABSTAIN, dtype=np.int16)
    if tags is None:
        raise RulesError(
            f"votes of rule '{votes.name}' are {votes.dtype}, and the tags are not known",
            where="votes",
            fix="name the tags, LabelModel(tags=[...]); leave out columns that are not votes, or name them by `key`",
        )
    return tag_codes(votes, tags)


def _numbered(votes: pl.Series, k: int) -> Codes:
    whole = votes.cast(pl.Int64) if votes.dtype.is_integer() else votes.cast(pl.Float64).fill_nan(None)
    numbers: NDArray[Any] = whole.fill_null(ABSTAIN).to_numpy()
    most = k or 2**14
    codes = numbers.clip(ABSTAIN - 1, most).astype(np.int16)
    if not np.array_equal(codes, numbers) or codes.min(initial=ABSTAIN) < ABSTAIN or codes.max(initial=ABSTAIN) >= most:
        wrong = np.flatnonzero((codes != numbers) | (codes < ABSTAIN) | (codes >= most))
        raise RulesError(
            f"votes of rule '{votes.name}': {votes[int(wrong[0])]} is not a vote: "
            + (f"-1 to {k - 1} are known" if k else "whole numbers from -1 are known"),
            where=f"row {wrong[0]}; {len(wrong)} such votes",
            fix="give the number of tags by cardinality or tags, if there are more",
        )
    return codes

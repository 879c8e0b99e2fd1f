"""Reads votes from a matrix or any table, as the codes that label models use."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kommuna.errors import DataError, MissingColumn, RulesError, SchemaDrift, nearest
from kommuna.spec.rules import RuleSet
from kommuna.steps.frames import is_pandas, lazy_table
from kommuna.steps.labeling.votes.grades import is_confidence
from kommuna.steps.labeling.votes.patterns import ABSTAIN, Codes, VotePatterns, distinct, tag_codes

_MOST_TAGS = 2**14  # a vote for or against one of them fits Int16
_SEVERAL = "label_messages labels rows that may have several tags"


@dataclass(frozen=True)
class VoteColumns:
    """Votes of m rules on n rows.

    Attributes:
        columns: m arrays of n codes, see `VotePatterns.votes`.
        rules: the m rules' names.
        tags: the k tags' names; None if the votes are numbers and tags have no names.
        k: the number of tags.
    """

    columns: list[Codes]
    rules: tuple[str, ...]
    tags: tuple[str, ...] | None
    k: int

    def __len__(self) -> int:
        return len(self.columns[0])

    def patterns(self) -> VotePatterns:
        """Returns the distinct patterns of votes."""
        votes, counts, row_pattern = distinct(self.columns)
        return VotePatterns(votes, counts, row_pattern, self.tags or tuple(str(t) for t in range(self.k)), self.rules)


def tag_names(tags: Sequence[str] | RuleSet | None, cardinality: int | None) -> tuple[tuple[str, ...] | None, int]:
    """Returns the names of the tags, if they have names, and their number; 0: the votes determine the number.

    Args:
        tags: names of tags, or a rule set.
        cardinality: the number of tags.

    Raises:
        RulesError: the tags are not a list of distinct names, do not match the cardinality, or the rule set has
            `multi_label`.
    """
    if isinstance(tags, RuleSet):
        if tags.multi_label:
            raise RulesError("a LabelModel supports one tag per row, but the rule set has multi_label", fix=_SEVERAL)
        tags = tags.tags
    if tags is not None:
        ordered = hasattr(tags, "__getitem__") and not isinstance(tags, str | Mapping)
        if not ordered or not all(isinstance(tag, str) for tag in tags):
            raise RulesError(
                f"tags must be a list of str, not {tags!r}",
                fix="omit tags if votes are numbers; give names in a list: their order is that of the probabilities",
            )
    named = None if tags is None else tuple(str(tag) for tag in tags)
    if named is not None and len(set(named)) < max(len(named), 1):
        raise RulesError(f"tags must be a list of distinct names, not empty: {list(named)}")
    if cardinality is None:
        return named, len(named or ())
    if not is_whole(cardinality) or not 1 <= cardinality <= _MOST_TAGS:
        raise RulesError(f"cardinality is {cardinality!r}, not a whole number from 1 to {_MOST_TAGS}")
    if named is not None and cardinality != len(named):
        raise RulesError(f"cardinality is {cardinality}, but there are {len(named)} tags")
    return named, int(cardinality)


def vote_columns(
    votes: Any, *, tags: tuple[str, ...] | None, k: int, key: str | None, rules: tuple[str, ...] | None = None
) -> VoteColumns:
    """Reads votes.

    Args:
        votes: an n x m matrix of whole numbers, -1 abstains; or a table (see `lazy_table`; the result of
            `apply_rules` too) with one column per rule, of tags by name, or of numbers as in a matrix; null abstains.
        tags: the names of the tags; None: those of the table's Enums, if it has any.
        k: the number of tags; 0: the number of names, or one more than the highest vote, at least two.
        key: a column to ignore, if the table has it.
        rules: the rules to read, in this order; None: all columns.

    Raises:
        RulesError: a vote is not a tag.
        DataError, MissingColumn, SchemaDrift: the votes are not a matrix or table of votes.
    """
    if isinstance(votes, pl.DataFrame | pl.LazyFrame | str | Path) or is_pandas(votes) or hasattr(votes, "_fields"):
        series = _series(lazy_table(votes, "votes").collect(engine="streaming"), key, rules)
    else:
        series = _of_matrix(votes, rules)
    if not series:
        raise DataError("the votes have no column for a rule", where="votes")
    if tags is None and rules is None:
        tags = _enum_tags(series)
        if tags and k and k != len(tags):
            raise RulesError(f"cardinality is {k}, but the votes name {len(tags)} tags", where="votes")
    k = k or len(tags or ())
    columns = [_codes(column, tags, k) for column in series]
    most = max(int(column.max(initial=ABSTAIN)) for column in columns)
    return VoteColumns(columns, tuple(column.name for column in series), tags, k or max(most + 1, 2))


def label_indices(labels: Any, tags: tuple[str, ...] | None, k: int) -> NDArray[np.int64]:
    """Returns d indices of true tags; -1 where a row has no label.

    Args:
        labels: d tags by name, or their indices if tags have no names; null, NaN and -1 mean no label.
        tags: the tags' names; None: they have none.
        k: the number of tags; 0: unknown.

    Raises:
        RulesError: a label is not a tag.
    """
    values = list(labels.to_list() if hasattr(labels, "to_list") else np.asarray(labels, dtype=object).reshape(-1))
    known: dict[Any, int] = {tag: i for i, tag in enumerate(tags or ())}
    found = np.full(len(values), ABSTAIN, dtype=np.int64)
    for row, value in enumerate(values):
        if _is_missing(value):
            continue
        if tags is None and _is_number(value) and -1 <= value < (k or _MOST_TAGS) and value == int(value):
            found[row] = int(value)
        elif isinstance(value, Hashable) and value in known:
            found[row] = known[value]
        else:
            raise RulesError(
                f"labels: {value!r} is not one of the tags{nearest(str(value), tags or ())}",
                where=f"row {row}",
                fix=f"the tags are {', '.join((tags or ())[:10])}" if tags else "give numbers from 0, as in the votes",
            )
    return found


def is_whole(value: Any) -> bool:
    """Whether the value is a whole number of Python or NumPy; a bool is not."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return is_whole(value) or isinstance(value, float | np.floating)


def _is_missing(value: Any) -> bool:
    """Whether the value is None, NaN, NaT or pandas' NA, which is not even equal to itself."""
    same = value is not None and value == value
    return not (isinstance(same, bool | np.bool_) and same)


def _series(table: pl.DataFrame, key: str | None, rules: tuple[str, ...] | None) -> list[pl.Series]:
    votes = (column for column in table.get_columns() if column.name != key and not is_confidence(column.name))
    columns = {column.name: column for column in votes}
    if rules is None:
        return list(columns.values())
    missing = [name for name in rules if name not in columns]
    if missing:
        raise MissingColumn(
            f"the votes have no column for rule '{missing[0]}'{nearest(missing[0], columns)}",
            where=f"votes: {', '.join(list(columns)[:5])} …",
            fix="pass votes of the rules that the model was fitted on",
        )
    return [columns[name] for name in rules]


def _of_matrix(votes: Any, rules: tuple[str, ...] | None) -> list[pl.Series]:
    matrix = np.asarray(votes)
    if matrix.ndim != 2 or matrix.dtype.kind not in "iuf":
        raise DataError(
            f"votes must be a matrix of whole numbers or a table, not {matrix.dtype} of shape {matrix.shape}",
            where="votes",
            fix="pass n x m numbers (-1 abstains), or a table with one column per rule",
        )
    names = rules or tuple(f"rule_{j}" for j in range(matrix.shape[1]))
    if len(names) != matrix.shape[1]:
        raise DataError(f"the votes have {matrix.shape[1]} columns, but there are {len(names)} rules", where="votes")
    return [pl.Series(name, column) for name, column in zip(names, np.ascontiguousarray(matrix.T), strict=True)]


def _enum_tags(series: list[pl.Series]) -> tuple[str, ...] | None:
    """Returns the tags in the Enums of votes, as `apply_rules` writes them; None if there is no Enum."""
    found = {tuple(column.dtype.categories): column.name for column in series if isinstance(column.dtype, pl.Enum)}
    if len(found) > 1:
        one, other, *_ = found.values()
        raise SchemaDrift(
            f"votes of rules '{one}' and '{other}' have different Enums",
            where="votes",
            fix="pass the tags: LabelModel(tags=[...])",
        )
    return tuple(tag for categories in found for tag in categories if not tag.startswith("!")) or None


def _codes(votes: pl.Series, tags: tuple[str, ...] | None, k: int) -> Codes:
    if votes.dtype == pl.Int8 and votes.null_count():
        raise RulesError(
            f"votes of rule '{votes.name}' are Int8 with nulls, which means that rows may have several tags",
            where="votes",
            fix=f"{_SEVERAL}; if the votes are indices of tags, cast them to Int64",
        )
    if votes.dtype.is_numeric():
        return _numbered(votes, k)
    if votes.dtype == pl.Null:
        return np.full(len(votes), ABSTAIN, dtype=np.int16)
    if tags is None:
        raise RulesError(
            f"votes of rule '{votes.name}' are {votes.dtype}, and the tags are unknown",
            where="votes",
            fix="pass the tags, LabelModel(tags=[...]); remove columns that are not votes, or pass their name as `key`",
        )
    return tag_codes(votes, tags)


def _numbered(votes: pl.Series, k: int) -> Codes:
    whole = votes.cast(pl.Int64) if votes.dtype.is_integer() else votes.cast(pl.Float64).fill_nan(None)
    numbers: NDArray[Any] = whole.fill_null(ABSTAIN).to_numpy()
    most = k or _MOST_TAGS
    codes = numbers.clip(ABSTAIN - 1, most).astype(np.int16)
    if not np.array_equal(codes, numbers) or codes.min(initial=ABSTAIN) < ABSTAIN or codes.max(initial=ABSTAIN) >= most:
        wrong = np.flatnonzero((codes != numbers) | (codes < ABSTAIN) | (codes >= most))
        raise RulesError(
            f"votes of rule '{votes.name}': {votes[int(wrong[0])]} is not a vote: "
            + (f"votes are -1 to {k - 1}" if k else "votes are whole numbers from -1"),
            where=f"row {wrong[0]}; {len(wrong)} such votes",
            fix="if there are more tags, pass their number as cardinality, or their names as tags",
        )
    return codes

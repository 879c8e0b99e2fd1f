"""Labeling functions in Python, for notebooks: returns their votes as a table. Teams keep rules as data, in YAML."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from kommuna.errors import RulesError, as_raised, nearest
from kommuna.spec.rules import RuleSet
from kommuna.spec.texts import distinct_texts
from kommuna.steps.columns import require_columns
from kommuna.steps.frames import lazy_table
from kommuna.steps.labeling.apply import check_key
from kommuna.steps.labeling.rules.expressions import expression_of

_FIX = "return a tag, its index among the tags, or None (-1) to abstain"


class Row(dict[str, Any]):
    """A message as a labeling function receives it: `row["text"]` and `row.text` are the same."""

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(f"no column '{name}'{nearest(name, self)}")


def votes_of(
    functions: Sequence[Callable[..., Any]] | Mapping[str, Callable[..., Any]],
    messages: Any,
    *,
    tags: Sequence[str] | RuleSet,
    key: str = "id",
) -> pl.DataFrame:
    """Returns the votes of Python functions on messages, in the form that `apply_rules` returns.

    Args:
        functions: labeling functions; their names are the keys of the dict, or the functions' own. A function that
            takes a row (`Row`) is called per row and returns a tag, its index among the tags, or None (-1) to abstain.
            A function without parameters returns a Polars expression of tags by name, which is evaluated on all rows
            at once and is much faster.
        messages: a table, see `lazy_table`.
        tags: the tags that the functions may vote for.
        key: the column that names a row.

    Returns:
        `key`, then one Enum column per function; null abstains.

    Raises:
        RulesError: a function fails or returns something else than a tag; the message names it and the row.
        MissingColumn, DuplicateKeys, DataError: the key column is missing, has duplicates or nulls.
        SpecError: the tags are not a list of texts, or have a duplicate.
    """
    named = _named(functions, key)
    known = tuple(tags.tags if isinstance(tags, RuleSet) else distinct_texts("tags", tags))
    lazy = lazy_table(messages, "messages")
    fix = f"pass the name of the key column, or number the rows: messages.with_row_index('{key}')"
    require_columns(lazy, [key], what="messages", fix=fix)
    check_key(lazy, key)
    table = lazy.collect()
    columns = {}
    for name, function in named.items():
        if inspect.signature(function).parameters:
            columns[name] = pl.Series(_by_row(name, function, table, known, key), dtype=pl.Enum(known))
        else:
            columns[name] = _by_expression(name, function, table, known, key)
    return table.select(key).with_columns(values.alias(name) for name, values in columns.items())


def _named(
    functions: Sequence[Callable[..., Any]] | Mapping[str, Callable[..., Any]], key: str
) -> dict[str, Callable[..., Any]]:
    pairs = functions.items() if isinstance(functions, Mapping) else [(_name(one), one) for one in functions]
    named: dict[str, Callable[..., Any]] = {}
    for name, function in pairs:
        if not callable(function):
            raise RulesError(f"rule '{name}' is not a function but {type(function).__name__}")
        if name in named or name in (key, "<lambda>"):
            problem = "duplicate rule name" if name in named else "a rule must not be named"
            raise RulesError(f"{problem} '{name}'", fix="pass a dict of functions by name")
        named[name] = function
    if not named:
        raise RulesError("the list of functions is empty")
    return named


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _by_row(
    name: str, function: Callable[[Row], Any], table: pl.DataFrame, tags: tuple[str, ...], key: str
) -> list[str | None]:
    vote_of = {tag: tag for tag in tags} | dict(enumerate(tags)) | {None: None, -1: None}
    votes = []
    for row in table.iter_rows(named=True):
        try:
            vote = function(Row(row))
        except Exception as error:
            raise RulesError(
                f"rule '{name}' failed: {type(error).__name__}: {error}", where=f"row {key} = {row[key]!r}"
            ) from error
        if isinstance(vote, bool) or not isinstance(vote, str | int | None) or vote not in vote_of:
            hint = nearest(vote, tags) if isinstance(vote, str) else ""
            raise RulesError(f"rule '{name}': {vote!r} is not a tag{hint}", where=f"row {key} = {row[key]!r}", fix=_FIX)
        votes.append(vote_of[vote])
    return votes


def _by_expression(
    name: str, function: Callable[[], Any], table: pl.DataFrame, tags: tuple[str, ...], key: str
) -> pl.Series:
    expression, _ = expression_of(function, table.schema, rule=name, tag=None, where=f"function: {name}")
    try:
        votes = table.select(pl.col(key), vote=expression)["vote"]
    except (MemoryError, KeyboardInterrupt):
        raise
    except BaseException as error:
        if isinstance(error, RulesError):
            raise as_raised(error) from None
        raise RulesError(f"rule '{name}' failed: {str(error).splitlines()[0]}", where=f"function: {name}") from None
    outside = table[key].filter(votes.is_not_null() & ~votes.is_in(list(tags)))
    if len(outside):
        vote = votes.filter(table[key] == outside[0])[0]
        raise RulesError(
            f"rule '{name}': {vote!r} is not a tag{nearest(str(vote), tags)}", where=f"row {key} = {outside[0]!r}",
            fix="return tags by name, and null to abstain",
        )  # fmt: skip
    return votes.cast(pl.Enum(tags))

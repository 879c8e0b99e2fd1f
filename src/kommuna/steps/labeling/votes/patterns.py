"""Votes in compact form: each distinct row of votes (a pattern) is stored once, with the number of rows that have it.

With keyword rules, half a million messages have a few thousand distinct patterns. Label models and the figures of
agreement work on these patterns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kommuna.errors import MissingColumn, RulesError, SchemaDrift, nearest
from kommuna.spec.rules import RuleSet
from kommuna.steps.cores import side_by_side
from kommuna.steps.labeling.votes.agreement import Agreement, agreement

Codes = NDArray[np.integer[Any]]  # Int8 where the number of tags allows it, otherwise Int16; see `vote_codes`
ABSTAIN = -1
_SAMPLE = 20_000  # the largest number of rows that models learn from
_SAMPLE_CELLS = 5_000_000  # the largest product of votes and tags in that sample
_COLUMNS = 20  # columns read at once: faster than one by one, and the copies stay small
_PARTS = 8  # groups of columns that are hashed in parallel
_FEW = 20  # up to 2**20 possible patterns, each possible pattern has a counter of its own


@dataclass(frozen=True)
class VotePatterns:
    """The P distinct patterns of the votes of m rules on n rows.

    Attributes:
        votes: P x m codes: -1 abstains, `t` votes for tag t, `k + t` votes against tag t.
        counts: P, the number of rows that have the pattern.
        row_pattern: n, the index of each row's pattern.
        tags: the k tags.
        rules: the m rules' names.
        multi_label: whether a row may have several tags.
        default: the index of the default tag, that of rows without a vote; None: such rows stay unknown.
    """

    votes: Codes
    counts: NDArray[np.int64]
    row_pattern: NDArray[np.int32]
    tags: tuple[str, ...]
    rules: tuple[str, ...]
    multi_label: bool = False
    default: int | None = None

    @property
    def rows(self) -> int:
        """n, the number of rows."""
        return len(self.row_pattern)

    @cached_property
    def covered(self) -> NDArray[np.bool_]:
        """P, whether any rule votes."""
        return np.asarray((self.votes != ABSTAIN).any(axis=1))

    @property
    def labeled(self) -> NDArray[np.bool_]:
        """P, whether rows with the pattern receive a label."""
        return self.covered if self.default is None else np.ones_like(self.covered)

    @cached_property
    def left(self) -> NDArray[np.bool_]:
        """P, whether the votes do not decide the tag (`decided`): it is then the default tag, or unknown."""
        return ~decided(self.votes, len(self.tags), self.default)

    @cached_property
    def agreement(self) -> Agreement:
        """Coverage, overlap and conflict, over all rows and per rule."""
        return agreement(self.votes, self.counts, k=len(self.tags), multi_label=self.multi_label)

    def row_votes(self) -> Codes:
        """Returns n x m codes, one row per message."""
        return self.votes[self.row_pattern]


def vote_patterns(table: pl.DataFrame, rules: RuleSet, *, key: str = "id") -> VotePatterns:
    """Finds the patterns of a votes table. Their order depends on their content only, not on the order of the rows.

    Args:
        table: `key` and one column per rule, as `apply_rules` returns them; other columns are ignored.
        rules: the rule set that cast the votes.
        key: the column that names a row.

    Raises:
        MissingColumn: a rule has no column.
        RulesError: a vote is not a tag.
        SchemaDrift: a column does not hold votes.
    """
    there = set(table.columns)
    missing = [rule.name for rule in rules.rules if rule.name not in there]
    if missing:
        hint = nearest(missing[0], [c for c in table.columns if c != key])
        raise MissingColumn(
            f"the votes have no column for rule '{missing[0]}'{hint}",
            where=f"votes: {len(table.columns)} columns",
            fix="apply the same rule set that the votes are read with"
            + (f"; {len(missing)} rules are missing" if len(missing) > 1 else ""),
        )
    votes, counts, row_pattern = distinct(vote_codes(table, rules))
    names = tuple(rule.name for rule in rules.rules)
    return VotePatterns(votes, counts, row_pattern, rules.tags, names, rules.multi_label, rules.default)


def vote_codes(table: pl.DataFrame, rules: RuleSet) -> list[Codes]:
    """Returns each rule's votes as codes (see `VotePatterns.votes`), in the rules' order: Int8 if they fit, else Int16.

    Args:
        table: one column per rule; other columns are ignored.
        rules: the rule set that cast the votes.

    Raises:
        RulesError: a vote is not a tag.
        SchemaDrift: a column does not hold votes.
    """
    meaning = dict(zip((rule.name for rule in rules.rules), vote_meaning(rules), strict=True))
    plain = _plain_columns(table, list(meaning), rules)
    narrow = 2 * len(rules.tags) <= np.iinfo(np.int8).max
    type_, column_type = (np.int8, pl.Int8) if narrow else (np.int16, pl.Int16)
    columns: dict[str, Codes] = {}
    for first in range(0, len(plain), _COLUMNS):
        physical = pl.col(plain[first : first + _COLUMNS]).to_physical().cast(column_type, wrap_numerical=True)
        for votes in table.select(physical.fill_null(ABSTAIN)):
            codes, means = votes.to_numpy(), meaning[votes.name]
            as_they_are = np.array_equal(means[:-1], np.arange(len(means) - 1))
            columns[votes.name] = codes if as_they_are else means[codes]
    for rule in rules.rules:
        if rule.name not in columns:
            votes = table[rule.name]
            yes_no = dict(enumerate(meaning[rule.name][:2].tolist()))
            columns[rule.name] = (
                _yes_no_codes(votes, yes_no, rules) if rules.multi_label else tag_codes(votes, rules.tags)
            )
    return [columns[name].astype(type_, copy=False) for name in meaning]


def vote_meaning(rules: RuleSet) -> Codes:
    """Returns m x c codes: line j maps each physical value of rule j's column to a code; the last entry is for null."""
    k, m = len(rules.tags), len(rules.rules)
    index = {tag: i for i, tag in enumerate(rules.tags)}
    if rules.multi_label:
        tag = np.array([index[rule.tag or ""] for rule in rules.rules], dtype=np.int16)
        return np.stack([k + tag, tag, np.full_like(tag, ABSTAIN)], axis=1)
    codes = [k + index[name[1:]] if name.startswith("!") else index[name] for name in rules.categories]
    return np.broadcast_to(np.array([*codes, ABSTAIN], dtype=np.int16), (m, len(codes) + 1))


def _plain_columns(table: pl.DataFrame, names: list[str], rules: RuleSet) -> list[str]:
    """Returns the columns that have the type `apply_rules` writes; these are read together."""
    schema = table.schema  # each access builds it again
    if not rules.multi_label:
        enum = pl.Enum(rules.categories)
        return [name for name in names if schema[name] == enum]
    whole = [name for name in names if schema[name].is_integer()]
    ends = (table.select(pl.col(whole).min()), table.select(pl.col(whole).max())) if whole and table.height else ()
    strange = {name for end in ends for name, value in zip(whole, end.row(0), strict=True) if value not in {0, 1, None}}
    return [name for name in whole if name not in strange]


def tag_codes(votes: pl.Series, tags: tuple[str, ...]) -> Codes:
    """Returns votes for tags by name, or against them by `!name`, as codes.

    Args:
        votes: one rule's votes; the series has the rule's name.
        tags: the k tags.

    Raises:
        RulesError: a vote is not a tag.
        SchemaDrift: the column does not hold votes.
    """
    if not isinstance(votes.dtype, pl.Enum | pl.Categorical | pl.String | pl.Null):
        raise SchemaDrift(f"votes of rule '{votes.name}': expected tags, found {votes.dtype}", where="votes")
    known = _codes_of(tags)
    if isinstance(votes.dtype, pl.Enum):
        by_physical = _by_physical(tuple(votes.dtype.categories), tags)
        if by_physical is not None:
            physical = votes.to_physical().cast(pl.UInt32).fill_null(len(by_physical) - 1).to_numpy()
            return by_physical[physical]  # type: ignore[no-any-return]
    return _replaced(votes.cast(pl.String), known, tags)


def _yes_no_codes(votes: pl.Series, known: Mapping[Any, int], rules: RuleSet) -> Codes:
    if not (votes.dtype.is_integer() or votes.dtype == pl.Null):
        raise SchemaDrift(
            f"votes of rule '{votes.name}': expected Int8 1, 0 or null, found {votes.dtype}", where="votes"
        )
    return _replaced(votes.cast(pl.Int64), known, rules.tags)


@lru_cache(maxsize=4)
def _codes_of(tags: tuple[str, ...]) -> dict[str, int]:
    return {tag: i for i, tag in enumerate(tags)} | {f"!{tag}": len(tags) + i for i, tag in enumerate(tags)}


@lru_cache(maxsize=4)
def _by_physical(categories: tuple[str, ...], tags: tuple[str, ...]) -> Codes | None:
    """Returns the code of each category of an Enum, then that of null; None if some category is not a vote."""
    known = _codes_of(tags)
    if any(category not in known for category in categories):
        return None
    return np.array([*(known[category] for category in categories), ABSTAIN], dtype=np.int16)


def _replaced(votes: pl.Series, known: Mapping[Any, int], tags: tuple[str, ...]) -> Codes:
    for value in votes.drop_nulls().unique(maintain_order=True):
        if value not in known:
            raise RulesError(
                f"votes of rule '{votes.name}': {value!r} is not a tag{nearest(str(value), tags)}",
                where=f"row {votes.index_of(value)}",
                fix="votes and rules must be of the same rule set",
            )
    return votes.replace_strict(known, default=ABSTAIN, return_dtype=pl.Int16).to_numpy()


@dataclass(frozen=True)
class CastVotes:
    """The q votes of P patterns without the abstentions, ordered by rule: a sparse matrix.

    Attributes:
        patterns: P.
        rule: q, the index of each vote's rule.
        line: q, the index of its pattern.
        code: q, its code (`VotePatterns.votes`).
    """

    patterns: int
    rule: NDArray[np.intp]
    line: NDArray[np.intp]
    code: Codes

    @classmethod
    def of(cls, votes: Codes) -> CastVotes:
        """Returns the votes in P x m codes."""
        by_rule = np.ascontiguousarray(votes.T)
        cast = by_rule >= 0
        cell = np.flatnonzero(cast)  # NumPy is ten times as fast on a flat array as on a matrix
        rule = np.repeat(np.arange(len(cast)), np.count_nonzero(cast, axis=1))
        return cls(len(votes), rule, cell - rule * len(votes), by_rule.reshape(-1)[cell])


def decided(votes: Codes, k: int, default: int | None) -> NDArray[np.bool_]:
    """Returns whether the votes of each of P patterns decide its tag.

    Without a default tag any vote decides. With one, a vote for some tag decides, and so does a vote against the
    default tag; a row with other votes against tags only has the default tag.

    Args:
        votes: `P x m` codes (`VotePatterns.votes`).
        k: the number of tags.
        default: the index of the default tag, if there is one.
    """
    if default is None:
        return np.asarray((votes != ABSTAIN).any(axis=1))
    return np.asarray((((votes >= 0) & (votes < k)) | (votes == k + default)).any(axis=1))


def unanimous(votes: Codes, k: int) -> NDArray[np.int64]:
    """Returns the tag that all votes of each of P patterns are for; -1 if they differ, or one is against a tag.

    Args:
        votes: `P x m` codes (`VotePatterns.votes`).
        k: the number of tags.
    """
    unsigned = np.dtype(f"u{votes.dtype.itemsize}")
    most = np.full(len(votes), ABSTAIN, dtype=votes.dtype)
    least = np.full(len(votes), np.iinfo(unsigned).max, dtype=unsigned)
    for column in votes.T:
        np.maximum(most, column, out=most)
        np.minimum(least, column.view(unsigned), out=least)  # an abstention, -1, is the largest of these
    return np.where((most == least) & (most < k), most, ABSTAIN).astype(np.int64)


def distinct(columns: list[Codes]) -> tuple[Codes, NDArray[np.int64], NDArray[np.int32]]:
    """Finds the distinct rows of a table of codes, by Zobrist hashing with an exact check.

    Args:
        columns: m arrays of n codes, each -1 or more.

    Returns:
        The P x m distinct rows, their P counts, and for each of the n rows the index of its distinct row.
    """
    most = [int(column.max(initial=ABSTAIN)) + 2 for column in columns]
    if sum(map(math.log2, most)) <= _FEW:
        return _of_few(columns, most)
    random = np.random.default_rng(0x6B6F6D)
    keys = [random.integers(0, 2**64, max(most), dtype=np.uint64) for _ in columns]
    size = math.ceil(len(columns) / _PARTS)
    parts = [slice(first, first + size) for first in range(0, len(columns), size)]
    hashes = np.bitwise_xor.reduce(side_by_side(lambda part: _hashes(columns[part], keys[part]), parts))
    _, row_pattern, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    # Column-major: a column fits the cache, and callers read patterns rule by rule.
    votes = np.empty((len(counts), len(columns)), dtype=np.result_type(*{c.dtype for c in columns}), order="F")
    exact = all(side_by_side(lambda part: _filled(votes.T[part], columns[part], row_pattern, counts), parts))
    if not exact:  # two patterns have the same hash: never observed, but handled
        votes, row_pattern, counts = np.unique(
            np.stack(columns, axis=1), axis=0, return_inverse=True, return_counts=True
        )
    return votes, counts, row_pattern.reshape(-1).astype(np.int32)


def _hashes(columns: list[Codes], keys: list[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """Returns n row hashes over some columns: the exclusive or of one random key per cell; key 0 is that of -1."""
    hashes = np.full(len(columns[0]), np.bitwise_xor.reduce([key[0] for key in keys]))
    for column, key in zip(columns, keys, strict=True):
        cast = np.flatnonzero(column >= 0)
        hashes[cast] ^= (key[1:] ^ key[0])[column[cast]]
    return hashes


def _filled(votes: Codes, columns: list[Codes], row_pattern: NDArray[np.intp], counts: NDArray[np.int64]) -> bool:
    """Writes some rules' votes into `votes` (one line per rule); returns whether each row equals its pattern there."""
    cells, voting = 0, np.zeros(len(counts), dtype=np.int64)
    exact = True
    for own, column in zip(votes, columns, strict=True):
        cast = np.flatnonzero(column >= 0)
        codes, pattern = column[cast], row_pattern[cast]
        own.fill(ABSTAIN)
        own[pattern] = codes
        exact = exact and np.array_equal(own[pattern], codes)
        cells += len(cast)
        voting += own >= 0
    return exact and int(voting @ counts) == cells  # otherwise some row abstains where its pattern votes


def _of_few(columns: list[Codes], most: list[int]) -> tuple[Codes, NDArray[np.int64], NDArray[np.int32]]:
    """Finds the distinct rows by counting: each possible row is a number whose digits are the codes."""
    number = np.zeros(len(columns[0]), dtype=np.int64)
    for column, base in zip(columns, most, strict=True):
        number *= base
        number += column + 1
    counts = np.bincount(number, minlength=1)
    there = np.flatnonzero(counts)
    place = np.zeros(len(counts), dtype=np.int32)
    place[there] = np.arange(len(there))
    votes = np.empty((len(there), len(columns)), dtype=np.result_type(*{c.dtype for c in columns}), order="F")
    rest = there.copy()
    for j in reversed(range(len(columns))):
        rest, digit = np.divmod(rest, most[j])
        votes[:, j] = digit - 1
    return votes, counts[there], place[number]


def sample(patterns: VotePatterns, *, seed: int) -> VotePatterns:
    """Draws patterns for a model to learn from, if there are more than it needs: votes x tags are bounded.

    `row_pattern` is empty in a sample, since the drawn rows are not rows of the table.

    Args:
        patterns: all patterns.
        seed: seed of the draw.
    """
    votes_a_row = max(1.0, float((patterns.votes[: 10 * _SAMPLE : 10] != ABSTAIN).sum(axis=1).mean()))
    rows = int(np.clip(_SAMPLE_CELLS / votes_a_row / len(patterns.tags), _SAMPLE / 10, _SAMPLE))
    if len(patterns.counts) <= rows:
        return patterns
    drawn = np.random.default_rng(seed).multinomial(rows, patterns.counts / patterns.counts.sum())
    there = np.flatnonzero(drawn)
    none = np.zeros(0, dtype=np.int32)
    return replace(patterns, votes=patterns.votes[there], counts=drawn[there], row_pattern=none)

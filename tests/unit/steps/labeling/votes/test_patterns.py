"""Vote patterns: they represent all votes, and invalid votes are refused."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kommuna.errors import MissingColumn, RulesError, SchemaDrift
from kommuna.spec.rules import RuleSet
from kommuna.steps.labeling.votes.label_matrix import from_matrix, to_matrix
from kommuna.steps.labeling.votes.patterns import distinct, vote_patterns

MATRICES = st.tuples(st.integers(1, 5), st.integers(1, 30)).flatmap(
    lambda shape: st.lists(
        st.lists(st.integers(-1, 2), min_size=shape[0], max_size=shape[0]), min_size=shape[1], max_size=shape[1]
    )
)


def three(rule_set: Any, m: int, **more: Any) -> Any:
    return rule_set(
        *({"name": f"r{j}", "tag": "a", "any": ["x"], **more} for j in range(m)),
        tags=["a", "b", "c"],
        multi_label=False,
    )


@settings(deadline=None)
@given(MATRICES)
def test_distinct_rows_and_their_counts_equal_those_of_numpy(rows: list[list[int]]) -> None:
    matrix = np.array(rows, dtype=np.int16)
    votes, counts, line = distinct(list(matrix.T))
    assert np.array_equal(votes[line], matrix)
    assert len(np.unique(votes, axis=0)) == len(votes)
    assert np.array_equal(np.bincount(line), counts)


@settings(deadline=None)
@given(MATRICES)
def test_a_matrix_is_unchanged_after_conversion_to_votes_and_back(rule_set: Any, rows: list[list[int]]) -> None:
    rules = three(rule_set, len(rows[0]))
    votes = from_matrix(np.array(rows), rules, keys=[f"k{i}" for i in range(len(rows))])
    assert to_matrix(votes, rules).tolist() == rows


def test_votes_as_strings_are_read_as_votes_as_enums_are(rule_set: Any) -> None:
    rules = three(rule_set, 2)
    votes = from_matrix(np.array([[0, -1], [2, 1]]), rules)
    as_text = votes.with_columns(pl.col("r0", "r1").cast(pl.String))
    assert np.array_equal(vote_patterns(votes, rules).row_votes(), vote_patterns(as_text, rules).row_votes())


def test_patterns_do_not_depend_on_the_order_of_rows(rule_set: Any) -> None:
    rules = three(rule_set, 3)
    matrix = np.random.default_rng(0).integers(-1, 3, (200, 3))
    one = vote_patterns(from_matrix(matrix, rules), rules)
    other = vote_patterns(from_matrix(matrix[::-1], rules), rules)
    assert np.array_equal(one.votes, other.votes)
    assert np.array_equal(one.counts, other.counts)


@pytest.mark.parametrize(
    ("column", "error", "message"),
    [
        (pl.Series("r0", ["a", "d", None]), RulesError, "votes of rule 'r0': 'd' is not a tag"),
        (pl.Series("r0", ["a", "!z", None]), RulesError, "votes of rule 'r0': '!z' is not a tag"),
        (pl.Series("r0", ["x", "x", None], dtype=pl.Enum(["x"])), RulesError, "votes of rule 'r0': 'x' is not a tag"),
        (pl.Series("r0", [0, 1, None]), SchemaDrift, "votes of rule 'r0': expected tags, found Int64"),
        (pl.Series("r_0", ["a", None, None]), MissingColumn, "no column for rule 'r0' (did you mean 'r_0'?)"),
    ],
)
def test_invalid_votes_are_refused(rule_set: Any, column: pl.Series, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        vote_patterns(pl.DataFrame({"id": [1, 2, 3], column.name: column}), three(rule_set, 1))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([1, 2], RulesError, "votes of rule 'r': 2 is not a tag"),
        (["a", "b"], SchemaDrift, "expected Int8 1, 0 or null"),
    ],
)
def test_votes_of_1_and_0_are_checked(rule_set: Any, values: list[Any], error: type[Exception], message: str) -> None:
    rules = rule_set({"name": "r", "tag": "a", "any": ["x"]}, multi_label=True)
    with pytest.raises(error, match="rule 'r'") as caught:
        vote_patterns(pl.DataFrame({"id": [1, 2], "r": values}), rules)
    assert message in str(caught.value)


def test_a_matrix_that_does_not_match_the_rules_is_refused(rule_set: Any) -> None:
    rules = three(rule_set, 2)
    with pytest.raises(RulesError, match=r"shape \(1, 3\), but there are 2 rules"):
        from_matrix(np.zeros((1, 3), dtype=int), rules)
    with pytest.raises(RulesError, match="has 3 in row 0, rule 'r1': values are -1 to 2"):
        from_matrix(np.array([[0, 3]]), rules)
    with pytest.raises(RulesError, match="cannot hold these votes: rule 'r0' votes against a tag"):
        to_matrix(pl.DataFrame({"id": [1]}), three(rule_set, 1, against=True))


@pytest.mark.parametrize("against", [False, True])
def test_the_possible_votes_are_computed_once_for_all_rules(
    rule_set: Any, monkeypatch: pytest.MonkeyPatch, against: bool
) -> None:
    calls: list[int] = []
    plain = vars(RuleSet)["categories"]

    def counted(self: RuleSet) -> Any:
        calls.append(1)
        return plain.__get__(self, RuleSet)

    monkeypatch.setattr(RuleSet, "categories", property(counted))
    times = []
    for m in (3, 60):
        rules = three(rule_set, m, against=against)
        votes = from_matrix(np.zeros((4, m), dtype=np.int64), rules)
        calls.clear()
        vote_patterns(votes, rules)
        times.append(len(calls))
    assert times[0] == times[1]


def test_columns_of_different_types_can_be_mixed(rule_set: Any) -> None:
    rules = three(rule_set, 3, against=True)
    votes = from_matrix(np.array([[0, -1, 2], [2, 1, -1]]), rules)
    mixed = votes.with_columns(pl.col("r1").cast(pl.String))
    assert vote_patterns(mixed, rules).row_votes().tolist() == [[0, -1, 2], [2, 1, -1]]
    several = rule_set({"name": "x", "tag": "a", "any": ["x"]}, {"name": "y", "tag": "b", "any": ["x"]},
                       tags=["a", "b"], multi_label=True)  # fmt: skip
    table = pl.DataFrame({"id": [0, 1, 2], "x": [1, 0, None], "y": pl.Series([None, None, None])})
    assert vote_patterns(table, several).row_votes().tolist() == [[0, -1], [2, -1], [-1, -1]]
    with pytest.raises(RulesError, match="votes of rule 'x': -1 is not a tag"):
        vote_patterns(table.with_columns(x=pl.Series([1, -1, None])), several)


@pytest.mark.parametrize("one_byte", [True, False])
def test_patterns_with_the_same_hash_are_distinguished(monkeypatch: pytest.MonkeyPatch, one_byte: bool) -> None:
    class NoChance:
        def integers(self, low: int, high: int, size: int, dtype: Any) -> Any:
            return np.zeros(size, dtype=dtype)

    monkeypatch.setattr(np.random, "default_rng", lambda seed: NoChance())
    matrix = np.full((4, 12), -1, dtype=np.int8 if one_byte else np.int16)
    matrix[1, 3], matrix[2, 3], matrix[2, 4] = 2, 2, 1  # each row's votes are among those of the next
    votes, counts, line = distinct(list(matrix.T))
    assert np.array_equal(votes[line], matrix)
    assert sorted(counts.tolist()) == [1, 1, 2]


@pytest.mark.parametrize(("tags", "type_"), [(63, np.int8), (64, np.int16)])
def test_votes_take_one_byte_if_there_are_few_tags(rule_set: Any, tags: int, type_: Any) -> None:
    names = [f"t{i}" for i in range(tags)]
    rules = rule_set(
        {"name": "for", "tag": names[-1], "any": ["x"]},
        {"name": "not", "tag": names[-1], "any": ["x"], "against": True},
        tags=names,
        multi_label=False,
    )
    enum = pl.Enum(rules.categories)
    table = pl.DataFrame({"id": [0, 1], "for": [names[-1], None], "not": [None, f"!{names[-1]}"]})
    for votes in (table, table.with_columns(pl.col("for", "not").cast(enum))):
        found = vote_patterns(votes, rules)
        assert found.votes.dtype == type_
        assert found.row_votes().tolist() == [[tags - 1, -1], [-1, 2 * tags - 1]]

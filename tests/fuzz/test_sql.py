"""SQL: `query` and `sql:` rules give the same result as DuckDB, or refuse the SQL."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
from hypothesis import strategies as st
from tests.fuzz.campaign import attempt, fuzzed
from tests.rigs.sql_peer import NUMBERS, TABLES, TRUTHS, answer, connected, numbers, plain

from kommuna.spec.rules import RuleSet
from kommuna.steps.etl.sql.wide_columns import widened
from kommuna.steps.labeling.apply import apply_rules

PEER = connected()
EXPRESSIONS = st.recursive(NUMBERS, numbers, max_leaves=5)
TEXTS = st.recursive(
    st.sampled_from(["s", "g", "'ов'", "''", "'b'", "NULL", "'a%_'", "'😀x'"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: f"({p[0]} || {p[1]})"),
        inner.map(lambda t: f"UPPER({t})"),
        inner.map(lambda t: f"TRIM({t})"),
        st.tuples(inner, st.integers(1, 4), st.integers(0, 3)).map(lambda p: f"SUBSTR({p[0]}, {p[1]}, {p[2]})"),
        st.tuples(inner, inner).map(lambda p: f"COALESCE({p[0]}, {p[1]})"),
        st.tuples(inner, inner).map(lambda p: f"CASE WHEN b THEN {p[0]} ELSE {p[1]} END"),
    ),
    max_leaves=4,
)  # fmt: skip
DAYS = st.sampled_from(["d", "DATE '2026-09-01'", "d + INTERVAL '1 day'", "CAST(ts AS DATE)"])
SIGNS = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])
CONDITIONS = st.recursive(
    st.one_of(
        TRUTHS,
        *(st.tuples(side, SIGNS, side).map(lambda p: " ".join(p)) for side in (EXPRESSIONS, TEXTS, DAYS)),
        st.tuples(EXPRESSIONS, EXPRESSIONS, EXPRESSIONS).map(lambda p: f"{p[0]} BETWEEN {p[1]} AND {p[2]}"),
        st.tuples(NUMBERS, st.lists(st.sampled_from(["1", "2.5", "NULL", "-3"]), min_size=1, max_size=3)).map(
            lambda p: f"{p[0]} IN ({', '.join(p[1])})"
        ),
        st.tuples(TEXTS, st.sampled_from(["LIKE", "NOT LIKE", "ILIKE"]), st.sampled_from(["'%в'", "'_'", "'%'", "'И%'"])).map(" ".join),
        st.tuples(TEXTS, TEXTS).map(lambda p: f"STRPOS({p[0]}, {p[1]}) > 1"),
        st.one_of(EXPRESSIONS, TEXTS, DAYS).map(lambda e: f"{e} IS NULL"),
        *(
            st.tuples(side, st.sampled_from(["IS NOT DISTINCT FROM", "IS DISTINCT FROM"]), side).map(" ".join)
            for side in (EXPRESSIONS, TEXTS, DAYS)
        ),
        st.sampled_from(["EXTRACT(MONTH FROM ts) = 9", "EXTRACT(DOW FROM d) > 2", "LENGTH(s) - 3 > 0"]),
    ),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        inner.map(lambda c: f"NOT ({c})"),
        inner.map(lambda c: f"({c}) IS NOT TRUE"),
        inner.map(lambda c: f"{c} IS NOT TRUE"),
        inner.map(lambda c: f"({c}) IS UNKNOWN"),
    ),
    max_leaves=3,
)  # fmt: skip
AGGREGATES = st.tuples(st.sampled_from(["SUM", "AVG", "MIN", "MAX", "COUNT"]), NUMBERS).map(lambda p: f"{p[0]}({p[1]})")


@st.composite
def statements(draw: st.DrawFn) -> str:
    """Draws a SELECT over one or two tables."""
    where = f" WHERE {draw(CONDITIONS)}" if draw(st.booleans()) else ""
    kind = draw(st.sampled_from(["rows", "groups", "join", "distinct"]))
    if kind == "rows":
        chosen = draw(st.lists(st.one_of(EXPRESSIONS, TEXTS, CONDITIONS, DAYS), min_size=1, max_size=3))
        return f"SELECT {', '.join(f'({e}) AS c{i}' for i, e in enumerate(chosen))} FROM t{where}"
    if kind == "groups":
        having = " HAVING COUNT(*) > 1" if draw(st.booleans()) else ""
        return f"SELECT g, {draw(AGGREGATES)} AS a, COUNT(*) AS n FROM t{where} GROUP BY g{having}"
    if kind == "join":
        how = draw(st.sampled_from(["JOIN", "LEFT JOIN"]))
        return f"SELECT t.i AS i, e.w AS w, e.y AS y, ({draw(EXPRESSIONS)}) AS v FROM t {how} e ON t.i = e.k{where}"
    return f"SELECT DISTINCT g, b FROM t{where}"


def by_duckdb(sql: str) -> list[tuple[Any, ...]] | None:
    """Returns DuckDB's rows; None if it raises, or if the dialect documents a different result."""
    try:
        rows = PEER.execute(sql).fetchall()
    except duckdb.Error:
        return None
    special = any(isinstance(v, float) and not math.isfinite(v) for row in rows for v in row)
    return None if special or any(isinstance(v, int) and abs(v) >= 2**62 for row in rows for v in row) else rows


@fuzzed(examples=60, sql=statements())
def test_a_statement_gives_the_result_of_duckdb_or_is_refused(folder: Path, sql: str) -> None:
    mine, error = attempt(lambda: answer(sql))
    theirs = by_duckdb(sql)
    if error is None and theirs is not None:
        assert len(mine) == len(theirs), (mine, theirs)
        assert all(map(same_row, ordered(mine), ordered(theirs))), (ordered(mine), ordered(theirs))


def ordered(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    shown = [tuple(plain(value) for value in row) for row in rows]
    return sorted(shown, key=lambda row: [(value is None, type(value).__name__, str(_rough(value))) for value in row])


def _rough(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def same_row(mine: tuple[Any, ...], theirs: tuple[Any, ...]) -> bool:
    return all(map(same, mine, theirs))


def same(mine: Any, theirs: Any) -> bool:
    if isinstance(mine, float) and isinstance(theirs, float):
        return math.isclose(mine, theirs, rel_tol=1e-6, abs_tol=1e-6)
    return bool(mine == theirs)


# Without infinity, which leads to NaN: NaN is null to a rule, and the greatest number to DuckDB.
ROWS = TABLES["t"].with_columns(pl.col("nan").replace(math.inf, 5.0)).with_row_index("id")
PEER.register("rows_of_rules", widened(ROWS.lazy()).collect().to_arrow())


@fuzzed(examples=60, condition=CONDITIONS)
def test_a_rule_votes_where_duckdb_returns_true_or_is_refused(folder: Path, condition: str) -> None:
    rules = RuleSet.read({"tags": ["x"], "rules": [{"name": "r", "tag": "x", "sql": condition}]})
    messages = ROWS.with_columns(text=pl.lit("m")).lazy()
    votes, error = attempt(lambda: apply_rules(messages, rules).votes.collect())
    theirs = by_duckdb(f"SELECT ({condition}) FROM rows_of_rules")
    if error is None and theirs is not None:
        assert votes["r"].is_not_null().to_list() == [row[0] is True for row in theirs]


NOISE = st.lists(
    st.sampled_from(
        ["SELECT", "FROM", "t", "WHERE", "(", ")", ",", "*", "i", "s", "'", '"', "--", "/*", ";", "CAST(", "AS", "::", "INT",
         "CASE", "WHEN", "END", "OVER", "ROUND(", "STRPOS(", "IS", "NOT", "TRUE", "/", "%", "1e999", "9" * 400, "\0", "😀", "$1",
         "?", "[1]", "{}", "INTERVAL", "'1 day'", "UNION", "JOIN", "e", "USING", "(k)", "GROUP BY", "ORDER BY", "LIMIT", "-1",
         "EXTRACT(", "POSITION(", "IN", "LEFT(", "a.b.c", "read_csv(", "'x'", "LIKE", "ESCAPE", "WITH", "EXISTS", "=", "<"]
    ),
    min_size=1, max_size=12,
)  # fmt: skip


@fuzzed(examples=80, words=NOISE, select=st.booleans())
def test_any_sequence_of_words_is_computed_or_refused(folder: Path, words: list[str], select: bool) -> None:
    sql = " ".join(words)
    attempt(lambda: answer(f"SELECT {sql}" if select else sql))
    rules, error = attempt(lambda: RuleSet.read({"tags": ["x"], "rules": [{"name": "r", "tag": "x", "sql": sql}]}))
    if error is None:
        attempt(lambda: apply_rules(ROWS.with_columns(text=pl.lit("m")).lazy(), rules).votes.collect())

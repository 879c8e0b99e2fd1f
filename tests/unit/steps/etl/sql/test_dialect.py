from __future__ import annotations

import ast
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rigs.sql_peer import INF, NUMBERS, TABLES, answer, comparable, connected, numbers, plain, statement
from tests.unit.steps.etl.sql_statements import REFUSED, SAME

from kommuna.errors import SpecError, TeamMistake
from kommuna.steps.etl.query import query
from kommuna.steps.etl.sql.dialect import standard_sql

# Where DuckDB raises, is not the standard, or docs/steps.md says something else.
OTHERWISE: dict[str, list[Any]] = {
    # a division by 0, and what has no value, is null
    "i / z": [None, None, None], "x / z": [None, None, None], "5 / 0": [None] * 3, "0 / 0": [None] * 3,
    "5.0 / 0": [None] * 3, "x / 0.0": [None] * 3, "i % z": [None] * 3, "x % z": [None] * 3, "MOD(5, 0)": [None] * 3,
    "i // z": [None] * 3, "0 / z > 1": [None] * 3, "i / z > 4 OR i = 1": [True, None, None],
    "SQRT(x)": [1.58113883008, None, None], "LN(x) > 0": [True, None, None], "POWER(x, 0.5) > 1": [True, None, None],
    # integers have 64 bits
    "2147483647 + 1": [2147483648] * 3, "sm * sm": [10_000, 40_000, 90_000], "u8 - 201": [-1, -101, -198],
    # places before a text's first character are empty, as in PostgreSQL
    "SUBSTR(s, -2)": ["Иванов", "b", None], "SUBSTR(s, -1, 3)": ["И", "b", None],
    # a difference of days is a duration
    "d - DATE '2026-08-01'": [timedelta(31), timedelta(36), None],
    # a text is compared with a number as a text
    "s = 1": [False, False, None], "'07' = 7": [False] * 3,
    # past 64 bits nothing is said
    "9223372036854775807 + i": [-9223372036854775808, -9223372036854775807, None],
}  # fmt: skip


@pytest.fixture(scope="module")
def peer() -> duckdb.DuckDBPyConnection:
    return connected()


@pytest.mark.parametrize("sql", SAME)
def test_the_answer_is_duckdbs(peer: duckdb.DuckDBPyConnection, sql: str) -> None:
    sql = statement(sql)
    assert comparable(answer(sql), sql) == comparable(peer.execute(sql).fetchall(), sql)


@pytest.mark.parametrize("sql", REFUSED)
def test_what_is_not_answered_is_refused(sql: str) -> None:
    with pytest.raises(TeamMistake):
        answer(statement(sql))


@pytest.mark.parametrize("sql", OTHERWISE)
def test_what_the_dialect_says_of_its_own(sql: str) -> None:
    assert [plain(value) for (value,) in answer(statement(sql))] == [plain(value) for value in OTHERWISE[sql]]


def test_without_tables_no_type_is_asked_for() -> None:
    assert standard_sql("CAST(s AS DATE) > d AND b IS UNKNOWN") == "CAST(s AS DATE) > d AND ((b) IS NULL)"
    with pytest.raises(SpecError, match="LEFT of 0 characters"):
        standard_sql("LEFT(s, 0) = 'x'")


@pytest.mark.parametrize("call", ["(b = ", "(b IS NOT DISTINCT FROM ", "ABS(", "NULLIF(1, "])
def test_what_is_nested_deep_is_read_once(call: str) -> None:
    sql = standard_sql(call * 40 + "b" + ")" * 40)  # twice a level would take days
    assert sql.count("b") >= call.count("b") * 40 + 1


def test_the_table_is_large() -> None:
    assert len(set(SAME)) > 500


def test_nulls_come_first_where_the_order_is_descending() -> None:
    assert answer("SELECT k FROM e ORDER BY k DESC")[0] == (None,)
    assert answer("SELECT k FROM e ORDER BY k DESC NULLS LAST")[-1] == (None,)


def test_the_names_of_columns_are_kept() -> None:
    got = query(
        {"t": TABLES["t"].lazy()}, sql="SELECT x / i, STRPOS(s, 'ов') AS p, LENGTH(s), SQRT(dec), b IS TRUE FROM t"
    )
    assert got.table.collect_schema().names() == ["x", "p", "s", "dec", "b"]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT CAST(s AS DATE) FROM t", "CAST of a text to a day or time guesses"),
        ("SELECT CAST('01.09.2026' AS DATE)", "'01.09.2026' is not written as 2026-09-01"),
        ("SELECT i FROM t WHERE d > 20260101", "^d is compared with 20260101: a day, time or difference of times with"),
        ("SELECT i FROM t WHERE d NOT BETWEEN 1 AND 2", "^d is compared with 1: a day, time"),
        ("SELECT i FROM t WHERE d IS DISTINCT FROM 3", "^d is compared with 3: a day, time"),
        ("SELECT INTERVAL 'x'", "cannot be read: expected leading integer in the interval"),
        ("SELECT CAST(i AS DECIMAL(99, 2)) FROM t", r"no type DECIMAL\(99, 2\)"),
        ("SELECT x::DECIMAL(2, 3) FROM t", r"no type DECIMAL\(2, 3\)"),
        ("SELECT GREATEST()", "the SQL cannot be read"),
        ("SELECT CAST(i AS TIMESTAMP) FROM t", "CAST of a number to a day or time"),
        ("SELECT CAST(d AS BIGINT) FROM t", "CAST of a day, time or difference of times to a number"),
        ("SELECT i FROM t WHERE d > CURRENT_DATE", "CURRENT_DATE is another one at each run"),
        ("SELECT LEFT(s, 0) FROM t", "LEFT of 0 characters"),
        ("SELECT REPLACE(s, '', 'x') FROM t", "REPLACE of ''"),
        ("SELECT ROUND(x, -1) FROM t", "ROUND.*: the number of decimals"),
        ("SELECT x > 1e999 FROM t", "1e999 is beyond the largest number"),
        ("SELECT x > " + "9" * 400 + " FROM t", "9{40} is beyond the largest number"),
        ("SELECT " + "(" * 5000 + "1" + ")" * 5000, "nested too deep|cannot be read"),
        ("SELECT " + "ROUND(" * 12 + "x" + ")" * 12 + " FROM t", "too many calls within calls"),
    ],
)
def test_a_refusal_says_what_and_shows_the_sql(sql: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        answer(sql)
    assert sql[:40] in caught.value.where


@settings(max_examples=150, deadline=None)
@given(st.recursive(NUMBERS, numbers, max_leaves=6))
def test_any_expression_is_answered_as_duckdb_does_or_refused(sql: str) -> None:
    try:
        wanted = connected().execute(statement(sql)).fetchall()
    except duckdb.Error:
        return  # a value past its type's range
    try:
        got = answer(statement(sql))
    except TeamMistake:
        return
    for (mine,), (theirs,) in zip(got, wanted, strict=True):
        if theirs is not None and abs(theirs) == INF:
            continue
        assert (mine is None) == (theirs is None)
        assert mine is None or float(mine) == pytest.approx(float(theirs), rel=1e-6, abs=1e-9, nan_ok=True)


DOCS = Path(__file__).resolve().parents[5] / "docs" / "steps.md"
DIALECT = re.findall(
    r"^\| `([^`]+)` \| `?([^`|]+?)`? \|",
    DOCS.read_text().partition("| SQL | is |")[2].partition("\n\n")[0],
    re.MULTILINE,
)


@pytest.mark.parametrize(("sql", "shown"), DIALECT)
def test_the_dialect_is_as_it_is_documented(sql: str, shown: str) -> None:
    if shown == "refused":
        with pytest.raises(SpecError):
            answer(f"SELECT {sql} AS v")
        return
    wanted = {"null": None, "true": True, "false": False}
    assert answer(f"SELECT {sql} AS v") == [(wanted[shown] if shown in wanted else ast.literal_eval(shown),)]


def test_the_documented_dialect_was_found() -> None:
    assert len(DIALECT) > 15

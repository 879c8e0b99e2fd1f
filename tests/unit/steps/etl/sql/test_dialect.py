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

# Where DuckDB raises, deviates from the standard, or docs/steps.md documents something else.
DIFFERENCES: dict[str, list[Any]] = {
    # division by 0 and undefined results are null
    "i / z": [None, None, None], "x / z": [None, None, None], "5 / 0": [None] * 3, "0 / 0": [None] * 3,
    "5.0 / 0": [None] * 3, "x / 0.0": [None] * 3, "i % z": [None] * 3, "x % z": [None] * 3, "MOD(5, 0)": [None] * 3,
    "i // z": [None] * 3, "0 / z > 1": [None] * 3, "i / z > 4 OR i = 1": [True, None, None],
    "SQRT(x)": [1.58113883008, None, None], "LN(x) > 0": [True, None, None], "POWER(x, 0.5) > 1": [True, None, None],
    # integers have 64 bits
    "2147483647 + 1": [2147483648] * 3, "sm * sm": [10_000, 40_000, 90_000], "u8 - 201": [-1, -101, -198],
    # positions before the first character are empty, as in PostgreSQL
    "SUBSTR(s, -2)": ["Иванов", "b", None], "SUBSTR(s, -1, 3)": ["И", "b", None],
    # the difference of two dates is a duration
    "d - DATE '2026-08-01'": [timedelta(31), timedelta(36), None],
    # comparing a text with a number compares texts
    "s = 1": [False, False, None], "'07' = 7": [False] * 3,
    # overflow of 64 bits wraps around
    "9223372036854775807 + i": [-9223372036854775808, -9223372036854775807, None],
}  # fmt: skip


@pytest.fixture(scope="module")
def peer() -> duckdb.DuckDBPyConnection:
    return connected()


@pytest.mark.parametrize("sql", SAME)
def test_the_result_is_the_same_as_in_duckdb(peer: duckdb.DuckDBPyConnection, sql: str) -> None:
    sql = statement(sql)
    assert comparable(answer(sql), sql) == comparable(peer.execute(sql).fetchall(), sql)


@pytest.mark.parametrize("sql", REFUSED)
def test_unsupported_sql_is_refused(sql: str) -> None:
    with pytest.raises(TeamMistake):
        answer(statement(sql))


@pytest.mark.parametrize("sql", DIFFERENCES)
def test_documented_differences_from_duckdb(sql: str) -> None:
    assert [plain(value) for (value,) in answer(statement(sql))] == [plain(value) for value in DIFFERENCES[sql]]


def test_without_tables_no_types_are_probed() -> None:
    assert standard_sql("CAST(s AS DATE) > d AND b IS UNKNOWN") == "CAST(s AS DATE) > d AND ((b) IS NULL)"
    with pytest.raises(SpecError, match="LEFT of 0 characters"):
        standard_sql("LEFT(s, 0) = 'x'")


@pytest.mark.parametrize("call", ["(b = ", "(b IS NOT DISTINCT FROM ", "ABS(", "NULLIF(1, "])
def test_deeply_nested_sql_is_rewritten_once(call: str) -> None:
    sql = standard_sql(call * 40 + "b" + ")" * 40)  # rewriting each level twice would take days
    assert sql.count("b") >= call.count("b") * 40 + 1


def test_there_are_more_than_500_statements() -> None:
    assert len(set(SAME)) > 500


def test_nulls_come_first_in_descending_order() -> None:
    assert answer("SELECT k FROM e ORDER BY k DESC")[0] == (None,)
    assert answer("SELECT k FROM e ORDER BY k DESC NULLS LAST")[-1] == (None,)


def test_column_names_are_kept() -> None:
    got = query(
        {"t": TABLES["t"].lazy()}, sql="SELECT x / i, STRPOS(s, 'ов') AS p, LENGTH(s), SQRT(dec), b IS TRUE FROM t"
    )
    assert got.table.collect_schema().names() == ["x", "p", "s", "dec", "b"]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT CAST(s AS DATE) FROM t", "CAST of a text to a date or time would guess"),
        ("SELECT CAST('01.09.2026' AS DATE)", "'01.09.2026' is not in ISO format"),
        ("SELECT i FROM t WHERE d > 20260101", "^d is compared with 20260101: a date, time or interval with"),
        ("SELECT i FROM t WHERE d NOT BETWEEN 1 AND 2", "^d is compared with 1: a date, time"),
        ("SELECT i FROM t WHERE d IS DISTINCT FROM 3", "^d is compared with 3: a date, time"),
        ("SELECT INTERVAL 'x'", "cannot be read: expected leading integer in the interval"),
        ("SELECT CAST(i AS DECIMAL(99, 2)) FROM t", r"DECIMAL\(99, 2\) is not a valid type"),
        ("SELECT x::DECIMAL(2, 3) FROM t", r"DECIMAL\(2, 3\) is not a valid type"),
        ("SELECT GREATEST()", "the SQL cannot be read"),
        ("SELECT CAST(i AS TIMESTAMP) FROM t", "CAST of a number to a date or time"),
        ("SELECT CAST(d AS BIGINT) FROM t", "CAST of a date, time or interval to a number"),
        ("SELECT i FROM t WHERE d > CURRENT_DATE", "CURRENT_DATE changes from run to run"),
        ("SELECT LEFT(s, 0) FROM t", "LEFT of 0 characters"),
        ("SELECT REPLACE(s, '', 'x') FROM t", "REPLACE of ''"),
        ("SELECT ROUND(x, -1) FROM t", "ROUND.*: the number of decimals"),
        ("SELECT x > 1e999 FROM t", "1e999 is out of range"),
        ("SELECT x > " + "9" * 400 + " FROM t", "9{40} is out of range"),
        ("SELECT " + "(" * 5000 + "1" + ")" * 5000, "nested too deeply|cannot be read"),
        ("SELECT " + "ROUND(" * 12 + "x" + ")" * 12 + " FROM t", "nests too many calls"),
    ],
)
def test_an_error_gives_the_reason_and_shows_the_sql(sql: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        answer(sql)
    assert sql[:40] in caught.value.where


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.recursive(NUMBERS, numbers, max_leaves=6))
def test_any_expression_gives_the_result_of_duckdb_or_is_refused(sql: str) -> None:
    try:
        wanted = connected().execute(statement(sql)).fetchall()
    except duckdb.Error:
        return  # a value out of its type's range
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
def test_the_documented_dialect_is_true(sql: str, shown: str) -> None:
    if shown == "refused":
        with pytest.raises(SpecError):
            answer(f"SELECT {sql} AS v")
        return
    wanted = {"null": None, "true": True, "false": False}
    assert answer(f"SELECT {sql} AS v") == [(wanted[shown] if shown in wanted else ast.literal_eval(shown),)]


def test_the_documented_dialect_was_found() -> None:
    assert len(DIALECT) > 15

"""Tables for tests of SQL, DuckDB over the same tables, and random expressions over them."""

from __future__ import annotations

import re
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import duckdb
import polars as pl
from hypothesis import strategies as st

from kommuna.steps.etl.query import query
from kommuna.steps.etl.sql.wide_columns import widened
from kommuna.steps.lazy_metrics import LazyMetrics

NAN, INF = float("nan"), float("inf")
TABLES = {
    "t": pl.DataFrame(
        {
            "i": [1, 2, None],
            "s": ["Иванов", "b", None],
            "x": [2.5, -0.5, None],
            "b": [True, False, None],
            "z": [0, 0, 0],
            "sm": pl.Series([100, 200, 300], dtype=pl.Int16),
            "u8": pl.Series([200, 100, 3], dtype=pl.UInt8),
            "f4": pl.Series([0.1, 16777217, None], dtype=pl.Float32),
            "g": ["a", "b", "a"],
            "ts": [datetime(2026, 9, 1, 12, 30), datetime(2026, 9, 6, 23, 59, 59), None],
            "d": [date(2026, 9, 1), date(2026, 9, 6), None],
            "nan": [NAN, 1.0, INF],
            "dec": pl.Series(["1.50", "2.55", None]).cast(pl.Decimal(10, 2)),
        }
    ),
    "e": pl.DataFrame(
        {
            "k": [1, 2, 2, None, 5],
            "w": [10, 20, 21, 40, 50],
            "y": ["p", None, "q", "r", "s"],
            "fl": [1.5, 2.5, None, 4.0, 0.5],
        }
    ),
}


def connected() -> duckdb.DuckDBPyConnection:
    """Returns DuckDB over the tables with the types that SQL computes with: 64-bit integers, null in place of NaN."""
    connection = duckdb.connect()
    for name, table in TABLES.items():
        connection.register(name, widened(table.lazy()).collect().to_arrow())
    return connection


def statement(sql: str) -> str:
    return sql if sql.startswith(("SELECT", "WITH")) else f"SELECT {sql} AS v FROM t"


def answer(sql: str) -> list[tuple[Any, ...]]:
    done = query({name: table.lazy() for name, table in TABLES.items()}, sql=sql)
    assert isinstance(done.metrics, LazyMetrics)
    done.metrics.compute_with([done.table])  # as the runtime does: a row that cannot be computed is the team's mistake
    return done.table.collect().rows()


def comparable(rows: list[tuple[Any, ...]], sql: str) -> list[str]:
    outer = re.sub(r"\([^()]*\)", "", sql)
    shown = [repr(tuple(plain(value) for value in row)) for row in rows]
    return shown if "ORDER BY" in outer else sorted(shown)


def plain(value: Any) -> Any:
    """Makes values comparable: numbers of all types rounded to twelve digits, dates as midnight."""
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return float(f"{float(value):.12g}") + 0.0
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day)
    return [plain(item) for item in value] if isinstance(value, list) else value


NUMBERS = st.sampled_from(["i", "x", "z", "sm", "u8", "dec", "2", "0", "1.5", "-3", "nan", "LENGTH(s)"])
TRUTHS = st.sampled_from(["b", "i > 1", "s = 'b'", "TRUE", "x < 0", "u8 > 100"])


def numbers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(inner, inner)
    truth = st.one_of(TRUTHS, pair.map(lambda p: f"{p[0]} > {p[1]}"), TRUTHS.map(lambda t: f"({t}) IS NOT TRUE"))
    return st.one_of(
        *(pair.map(lambda p, mark=mark: f"{p[0]} {mark} {p[1]}") for mark in "+-*"),  # type: ignore[misc]
        pair.map(lambda p: f"({p[0]}) / NULLIF({p[1]}, 0)"),
        inner.map(lambda n: f"({n})"),
        inner.map(lambda n: f"ROUND({n})"),
        inner.map(lambda n: f"CAST({n} AS BIGINT)"),
        st.tuples(truth, inner, inner).map(lambda p: f"CASE WHEN {p[0]} THEN {p[1]} ELSE {p[2]} END"),
    )

"""Translates standard SQL for Polars: rewrites what Polars interprets differently, and refuses what it cannot rewrite.

Polars' SQL counts bytes where the standard counts characters, wraps around small integers, and rounds decimals on
division. The text is rewritten only where the meaning is certain; docs/steps.md lists the resulting dialect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from kommuna.errors import SpecError
from kommuna.steps.etl.sql.rewriter import NUMBER, STRPTIME_FIX, Rewriter
from kommuna.steps.etl.sql.tokens import Node, parse_nodes

_INTERVAL = "write DATE '2026-09-01' for a date, INTERVAL '30 days' for a difference of dates or times"
_EPOCH = "write EXTRACT(EPOCH FROM column): seconds since 1970"
MAX_PROBES = 50  # comparisons of one statement whose types are probed: each probe plans the statement once or twice
POLARS_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)  # some SQL panics: GREATEST()


def standard_sql(sql: str, can_plan: Callable[[str], bool] | None = None) -> str:
    """Rewrites a statement or expression so that Polars computes what standard SQL means by it.

    Args:
        sql: a SELECT, or an expression.
        can_plan: whether Polars can plan a text over the tables' columns. Probes use it to find out the types of
            operands. None if there are no tables yet: then no types are checked.

    Returns:
        The rewritten SQL.

    Raises:
        SpecError: Polars would compute something else and the SQL cannot be rewritten, or it is nested too deeply.
    """
    nodes = parse_nodes(sql)
    if nodes is None:
        return sql  # Polars reports what is wrong with it
    try:
        found = Rewriter()
        text = found.rewrite(nodes)
        if can_plan is None or not (found.roundable or found.time_casts or found.hour_intervals or found.comparisons):
            return text
        rounded = found.roundable
        if not can_plan(text):
            rounded = {at for at in found.roundable if can_plan(Rewriter(round_only={at}).rewrite(nodes))}
            text = Rewriter(round_only=rounded).rewrite(nodes)
        for at in found.time_casts:
            if can_plan(Rewriter(round_only=rounded, text_probe=at).rewrite(nodes)):
                raise SpecError(
                    "CAST of a text to a date or time would guess its format",
                    fix=STRPTIME_FIX,
                )
        _refuse_times_as_numbers(nodes, found, rounded, can_plan)
        return text
    except RecursionError:
        raise SpecError("the SQL is nested too deeply", fix="split it into steps") from None


def _refuse_times_as_numbers(
    nodes: Sequence[Node], found: Rewriter, rounded: set[int], can_plan: Callable[[str], bool]
) -> None:
    """Refuses SQL in which Polars would treat dates and times as numbers, or drop the hours added to a date."""
    for at in found.time_casts:
        if can_plan(Rewriter(round_only=rounded, number_probe=at).rewrite(nodes)):
            raise SpecError(
                "CAST of a number to a date or time",
                fix="write the date or time as text in the file, such as 2026-09-01",
            )
    for at in found.roundable:
        if can_plan(Rewriter(round_only=rounded - {at}, time_probe=at).rewrite(nodes)):
            raise SpecError("CAST of a date, time or interval to a number", fix=_EPOCH)
    for at in found.hour_intervals:
        if can_plan(Rewriter(round_only=rounded, days_probe=at).rewrite(nodes)):
            raise SpecError(
                "hours, minutes or seconds are added to or subtracted from a date, and the result is a date again",
                fix="convert it to a time first: CAST(day AS TIMESTAMP) + INTERVAL '12 hours'",
            )
    for at, (left, right) in list(found.comparisons.items())[:MAX_PROBES]:
        for swapped, number in ((False, right), (True, left)):
            if NUMBER.fullmatch(left if number is right else right):
                continue  # a literal number is not a time
            if can_plan(Rewriter(round_only=rounded, comparison_probe=(at, swapped)).rewrite(nodes)):
                raise SpecError(
                    f"{left} is compared with {right}: a date, time or interval with a number", fix=_INTERVAL
                )

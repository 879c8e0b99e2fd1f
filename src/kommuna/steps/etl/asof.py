"""As-of join: to each row, the other table's nearest row in time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import polars as pl
import structlog

from kommuna.errors import SchemaDrift, SpecError
from kommuna.spec.texts import text_list
from kommuna.steps.etl.columns import require
from kommuna.steps.frames import takes_frames

log = structlog.get_logger()

Strategy = Literal["backward", "forward", "nearest"]
_DURATION = re.compile(r"(?:\d+(?:ns|us|ms|s|m|h|d|w))+")


class Joined(NamedTuple):
    """Every left row in its order, with the columns of the right row that it met."""

    table: pl.LazyFrame
    metrics: dict[str, float]


@takes_frames
def asof_join(
    left: pl.LazyFrame,
    right: pl.LazyFrame,
    *,
    on: str,
    by: Sequence[str] = (),
    tolerance: str | None = None,
    strategy: Strategy = "backward",
    suffix: str = "_right",
) -> Joined:
    """Joins to each left row the right row that is nearest by `on`: at or before it, at or after it, or either.

    Of right rows that are equal in `on` and `by`, the last one joins backward, the first one forward. Nulls in `on`
    or `by` join nothing. Left rows keep their order.

    Args:
        left: the rows to keep.
        right: the rows to look up.
        on: the column of times (or numbers), the same type on both sides.
        by: columns that must be equal.
        tolerance: how far away a right row may be: `2h`, `30m`, `1d12h`; a number where `on` holds numbers.
        strategy: in which direction to look.
        suffix: goes to the right columns whose names stand on the left too.
    Returns:
        The joined table, and the metrics `rows`, `matched`, `unmatched`.
    Raises:
        MissingColumn: a side lacks `on` or one of `by`.
        SchemaDrift: a column's type is not the same on both sides, or `on` has no order in time.
        SpecError: a tolerance that cannot be read.
    """
    by = text_list("by", by)
    schema = _checked(left, right, on, by)
    options: dict[str, Any] = {
        "on": on,
        "by": by or None,
        "strategy": strategy,
        "tolerance": _tolerance(tolerance, schema[on]),
        "suffix": suffix,
        "check_sortedness": False,  # both sides are sorted here
    }
    numbered = left.with_row_index("#left")
    lookup = (
        right.filter(pl.all_horizontal(pl.col(on, *by).is_not_null()))
        .with_row_index("#right")
        .sort(on, "#right", maintain_order=True)
        .with_columns((pl.col("#right") >= 0).alias("#met"))
        .drop("#right")
    )
    rows, matched = _count(numbered.select("#left", on, *by), lookup.select("#met", on, *by), options)
    joined = _join(numbered, lookup, options).sort("#left").drop("#left", "#met")
    metrics = {"rows": float(rows), "matched": float(matched), "unmatched": float(rows - matched)}
    log.info("asof.joined", on=on, by=by, **metrics)
    return Joined(joined, metrics)


def _join(left: pl.LazyFrame, right: pl.LazyFrame, options: dict[str, Any]) -> pl.LazyFrame:
    """The rows in no set order, with `#met` where a right row was found."""
    on = options["on"]
    met = left.filter(pl.col(on).is_not_null()).sort(on, "#left", maintain_order=True).join_asof(right, **options)
    alone = left.filter(pl.col(on).is_null())
    return pl.concat([met, alone], how="diagonal")


def _count(left: pl.LazyFrame, right: pl.LazyFrame, options: dict[str, Any]) -> tuple[int, int]:
    counts = _join(left, right, options).select(pl.len().alias("rows"), pl.col("#met").count().alias("matched"))
    found = counts.collect(engine="streaming").row(0, named=True)
    return int(found["rows"]), int(found["matched"])


def _checked(left: pl.LazyFrame, right: pl.LazyFrame, on: str, by: list[str]) -> pl.Schema:
    schemas = {"left": left.collect_schema(), "right": right.collect_schema()}
    for side, schema in schemas.items():
        require(schema, [on, *by], where=f"the {side} table of an as-of join")
    for column in (on, *by):
        found = {side: schema[column] for side, schema in schemas.items()}
        if found["left"] != found["right"]:
            raise SchemaDrift(
                f"column '{column}': expected one type on both sides, found {found['left']} on the left"
                f" and {found['right']} on the right",
                where="as-of join",
                mend="declare the column with the same type where the tables are read",
            )
    if not (schemas["left"][on].is_temporal() or schemas["left"][on].is_numeric()):
        raise SchemaDrift(
            f"column '{on}': expected a time or a number, found {schemas['left'][on]}",
            where="as-of join",
            mend="declare the column as Datetime where the table is read",
        )
    return schemas["left"]


def _tolerance(tolerance: str | None, dtype: pl.DataType) -> str | float | int | None:
    if tolerance is None or tolerance == "":
        return None
    if dtype.is_numeric():
        try:
            return int(tolerance) if dtype.is_integer() else float(tolerance)
        except ValueError:
            mend = f"the column joined on holds {dtype}"
            raise SpecError(f"tolerance '{tolerance}' is no number", mend=mend) from None
    if not _DURATION.fullmatch(tolerance):
        raise SpecError(f"tolerance '{tolerance}' is no duration", mend="write it as 30m, 2h, 7d or 1d12h")
    return tolerance

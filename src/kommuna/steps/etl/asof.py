"""Step: as-of join, which adds to each row the nearest row in time of another table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, NamedTuple, get_args

import polars as pl
import structlog

from kommuna.errors import SchemaDrift, SpecError, nearest
from kommuna.spec.texts import distinct_texts
from kommuna.steps.columns import require_columns, unused
from kommuna.steps.frames import takes_frames
from kommuna.steps.lazy_metrics import LazyMetrics

log = structlog.get_logger()

Strategy = Literal["backward", "forward", "nearest"]
_DURATION = re.compile(r"(?:\d+(?:ns|us|ms|s|m|h|d|w))+")


class Joined(NamedTuple):
    """Every left row in its order, with the columns of the right row that it matched."""

    table: pl.LazyFrame
    metrics: Mapping[str, float]


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
    """Joins to each left row the nearest right row by `on`: at or before it, at or after it, or either.

    If several right rows are equal in `on` and `by`, a backward join takes the last one and a forward join the first
    one. Null in `on` or `by`, and NaN or infinity in `on`, match nothing. Left rows keep their order.

    Args:
        left: the rows to keep.
        right: the rows to look up.
        on: the column of times (or numbers), the same type on both sides.
        by: columns that must be equal in both rows.
        tolerance: the largest distance of a match: `2h`, `30m`, `1d12h`, or a number if `on` has numbers.
        strategy: in which direction to look.
        suffix: appended to right columns whose names are on the left too.

    Returns:
        The joined table, and the metrics `rows`, `matched`, `unmatched`.

    Raises:
        MissingColumn: a table has no column `on`, or lacks one of `by`.
        SchemaDrift: a column has different types on both sides, or `on` is neither a time nor a number.
        SpecError: the tolerance is not valid or negative; `on` is in `by`; `by` has duplicates; or a column's name
            with the suffix is taken.
    """
    by = distinct_texts("by", by)
    schema = _checked(left, right, on, by, suffix=suffix, strategy=strategy)
    found = list(right.collect_schema())
    taken = (*schema, *found, *(name + suffix for name in found))
    row, matching = unused(taken, "#row"), unused(taken, "#matched")
    options: dict[str, Any] = {
        "on": on,
        "by": by or None,
        "strategy": strategy,
        "tolerance": _tolerance(tolerance, schema[on]),
        "suffix": suffix,
        "check_sortedness": False,  # both sides are sorted here
    }
    can_match = _comparable(on, schema[on])
    numbered = left.with_row_index(row)
    lookup = (
        right.filter(pl.all_horizontal(pl.col(by).is_not_null()) & can_match)
        .sort(on, maintain_order=True)
        .with_columns(pl.lit(True).alias(matching))
    )
    matched = numbered.filter(can_match).sort(on, maintain_order=True).join_asof(lookup, **options)
    joined = pl.concat([matched, numbered.filter(~can_match)], how="diagonal").sort(row)
    counts = {"rows": pl.len(), "matched": pl.col(matching).count(), "unmatched": pl.col(matching).null_count()}
    return Joined(joined.drop(row, matching), LazyMetrics(joined.select(**counts)))


def _comparable(on: str, dtype: pl.DataType) -> pl.Expr:
    """Whether a row can match: like null, NaN and infinity match nothing."""
    column = pl.col(on)
    return column.is_not_null() & column.is_finite() if dtype.is_float() else column.is_not_null()


def _checked(
    left: pl.LazyFrame, right: pl.LazyFrame, on: str, by: list[str], *, suffix: str, strategy: str
) -> pl.Schema:
    if strategy not in get_args(Strategy):
        raise SpecError(
            f"no strategy '{strategy}'{nearest(strategy, get_args(Strategy))}",
            where="as-of join",
            fix=f"there are: {', '.join(get_args(Strategy))}",
        )
    if on in by:
        fix = "leave it out of `by`: `on` is compared by distance, `by` for equality"
        raise SpecError(f"column '{on}' is given as `on` and in `by`", where="as-of join", fix=fix)
    schemas = {
        side: require_columns(table, [on, *by], what=side) for side, table in {"left": left, "right": right}.items()
    }
    for column in (on, *by):
        found = {side: schema[column] for side, schema in schemas.items()}
        if found["left"] != found["right"]:
            raise SchemaDrift(
                f"column '{column}': expected one type on both sides, found {found['left']} on the left"
                f" and {found['right']} on the right",
                where="as-of join",
                fix="declare the column with the same type where the tables are read",
            )
    if not (schemas["left"][on].is_temporal() or schemas["left"][on].is_numeric()):
        raise SchemaDrift(
            f"column '{on}': expected a time or a number, found {schemas['left'][on]}",
            where="as-of join",
            fix="declare the column as Datetime where the table is read",
        )
    _refuse_clashes(list(schemas["left"]), [name for name in schemas["right"] if name not in (on, *by)], suffix)
    return schemas["left"]


def _refuse_clashes(left: list[str], right: list[str], suffix: str) -> None:
    """Refuses a right column whose name is taken on the left, both without and with the suffix."""
    given = {name: name + suffix if name in left else name for name in right}
    for name, wanted in given.items():
        if name in left and (wanted in left or list(given.values()).count(wanted) > 1):
            raise SpecError(
                f"column '{name}' is in both tables, and '{wanted}' is taken",
                where="as-of join",
                fix=f"give another suffix (it is {suffix!r}), such as suffix='_2', or select the columns before",
            )


def _tolerance(tolerance: str | None, dtype: pl.DataType) -> str | float | int | None:
    if tolerance is None or tolerance == "":
        return None
    if not dtype.is_numeric():
        if not _DURATION.fullmatch(tolerance):
            raise SpecError(f"tolerance '{tolerance}' is not a duration", fix="write it as 30m, 2h, 7d or 1d12h")
        return tolerance
    fix = (
        f"the column joined on holds {dtype}: give {'a whole number' if dtype.is_integer() else 'a number'}, 0 or more"
    )
    try:
        number = Decimal(tolerance)
    except InvalidOperation:
        raise SpecError(f"tolerance '{tolerance}' is not a number", fix=fix) from None
    if not number.is_finite() or number < 0:
        raise SpecError(f"tolerance '{tolerance}' is not a distance", fix=fix)
    if dtype.is_integer() and number != int(number):
        raise SpecError(f"tolerance '{tolerance}' is not a whole number", fix=fix)
    if isinstance(dtype, pl.Decimal):
        return int(number.scaleb(dtype.scale))  # in units of the last decimal place, as Polars expects
    return int(number) if dtype.is_integer() else float(number)

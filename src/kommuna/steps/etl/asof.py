"""As-of join: to each row, the other table's nearest row in time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, NamedTuple, get_args

import polars as pl
import structlog

from kommuna.errors import SchemaDrift, SpecError, nearest
from kommuna.spec.texts import distinct_texts
from kommuna.steps.columns import require_columns, unused
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
    or `by` join nothing, nor do NaN and infinity in `on`. Left rows keep their order.

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
        SpecError: a tolerance that cannot be read or is negative; `on` is among `by`, or a column twice; a column's
            name with the suffix is taken.
    """
    by = distinct_texts("by", by)
    schema = _checked(left, right, on, by, suffix=suffix, strategy=strategy)
    found = list(right.collect_schema())
    taken = (*schema, *found, *(name + suffix for name in found))
    row, met = unused(taken, "#row"), unused(taken, "#met")
    options: dict[str, Any] = {
        "on": on,
        "by": by or None,
        "strategy": strategy,
        "tolerance": _tolerance(tolerance, schema[on]),
        "suffix": suffix,
        "check_sortedness": False,  # both sides are sorted here
    }
    numbered = left.with_row_index(row)
    lookup = (
        right.filter(pl.all_horizontal(pl.col(by).is_not_null()) & _placed(on, schema[on]))
        .with_row_index(row)
        .sort(on, row, maintain_order=True)
        .with_columns((pl.col(row) >= 0).alias(met))
        .drop(row)
    )
    join = _Join(_placed(on, schema[on]), row, options)
    rows, matched = join.met(numbered.select(row, on, *by), lookup.select(met, on, *by), met)
    joined = join.rows(numbered, lookup).sort(row).drop(row, met)
    metrics = {"rows": float(rows), "matched": float(matched), "unmatched": float(rows - matched)}
    log.info("asof.joined", on=on, by=by, **metrics)
    return Joined(joined, metrics)


def _placed(on: str, dtype: pl.DataType) -> pl.Expr:
    """Whether a row has a place in the order: NaN and infinity are as far from everything as null."""
    column = pl.col(on)
    return column.is_not_null() & column.is_finite() if dtype.is_float() else column.is_not_null()


class _Join(NamedTuple):
    """The join of sorted tables.

    Attributes:
        placed: which left rows may meet another.
        row: the left rows' numbers.
        options: of `join_asof`.
    """

    placed: pl.Expr
    row: str
    options: dict[str, Any]

    def rows(self, left: pl.LazyFrame, right: pl.LazyFrame) -> pl.LazyFrame:
        """The rows in no set order."""
        on = self.options["on"]
        met = left.filter(self.placed).sort(on, self.row, maintain_order=True).join_asof(right, **self.options)
        return pl.concat([met, left.filter(~self.placed)], how="diagonal")

    def met(self, left: pl.LazyFrame, right: pl.LazyFrame, flag: str) -> tuple[int, int]:
        """The rows, and those of them that met a right row."""
        counts = self.rows(left, right).select(pl.len().alias("rows"), pl.col(flag).count().alias("matched"))
        found = counts.collect(engine="streaming").row(0, named=True)
        return int(found["rows"]), int(found["matched"])


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
        fix = "leave it out of `by`: rows that are equal in it are what `on` is not for"
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
    """Refuses a right column whose name stands on the left, where the name with the suffix is taken too."""
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
            raise SpecError(f"tolerance '{tolerance}' is no duration", fix="write it as 30m, 2h, 7d or 1d12h")
        return tolerance
    fix = (
        f"the column joined on holds {dtype}: give {'a whole number' if dtype.is_integer() else 'a number'}, 0 or more"
    )
    try:
        number = Decimal(tolerance)
    except InvalidOperation:
        raise SpecError(f"tolerance '{tolerance}' is no number", fix=fix) from None
    if not number.is_finite() or number < 0:
        raise SpecError(f"tolerance '{tolerance}' is no distance", fix=fix)
    if dtype.is_integer() and number != int(number):
        raise SpecError(f"tolerance '{tolerance}' is no whole number", fix=fix)
    if isinstance(dtype, pl.Decimal):
        return int(number.scaleb(dtype.scale))  # Polars counts in the last decimal place
    return int(number) if dtype.is_integer() else float(number)

"""Rules of the fraud team that need more than a condition."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


def oddities() -> pl.Expr:
    """`fraud` from four small oddities on, `legit` where there is none, no opinion between."""
    import polars as pl

    signs = [
        pl.col("abroad") & ~pl.col("announced"),
        pl.col("amount_over_usual") > 2.5,
        pl.col("night"),
        pl.col("risky_category"),
        ~pl.col("card_present"),
        (pl.col("access_changed") & (pl.col("hours_since_event") < 6)).fill_null(False),
    ]
    count = pl.sum_horizontal(sign.cast(pl.Int8) for sign in signs)
    return pl.when(count >= 4).then(pl.lit("fraud")).when(count == 0).then(pl.lit("legit"))

"""Rules of the support team that need more than words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


def operator_tag() -> pl.Expr:
    """The tag that the operator chose; no opinion where no operator has seen the message."""
    import polars as pl

    return pl.col("operator_tag")

"""A step of the fraud team's own: a plain typed function, used in a DAG as a shared one is."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl


class Alerts(NamedTuple):
    """Suspicious transactions, the surest first."""

    table: pl.LazyFrame
    metrics: dict[str, float]


def alerts(predictions: pl.LazyFrame, transactions: pl.LazyFrame, *, least_confidence: float = 0.8) -> Alerts:
    """Transactions that the model calls fraud, with what an analyst wants to see first.

    Args:
        predictions: `id`, `tag`, `confidence`.
        transactions: the transactions that were scored, by `id`.
        least_confidence: 0 to 1.
    """
    suspicious = predictions.filter(
        pl.col("tag").cast(pl.String) == "fraud", pl.col("confidence") >= least_confidence
    ).select("id", "confidence")
    seen = transactions.select("id", "at", "customer_id", "amount", "merchant_category", "country", "event")
    table = suspicious.join(seen, on="id").sort("confidence", "id", descending=[True, False])
    return Alerts(table, {"alerts": float(table.select(pl.len()).collect().item())})

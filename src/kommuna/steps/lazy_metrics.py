"""Metrics of a table that are computed while the table is written, so that its plan runs once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import polars as pl

from kommuna.errors import KommunaError


class LazyMetrics(Mapping[str, float]):
    """Metrics whose values are computed in one pass with a step's tables, or at the first look at them.

    Args:
        plan: one row, one column per metric; derived from the plan of the step's tables, which is shared.
        explained: returns the step's own error for one of Polars.
        known: metrics that are known already.
    """

    def __init__(
        self,
        plan: pl.LazyFrame,
        explained: Callable[[Exception], KommunaError] | None = None,
        *,
        known: Mapping[str, float] | None = None,
    ) -> None:
        self._plan = plan
        self._explained = explained
        self._known = dict(known or {})
        self._values: dict[str, float] | None = None

    def with_known(self, known: Mapping[str, float]) -> LazyMetrics:
        """Returns these metrics after others that are known already."""
        return LazyMetrics(self._plan, self._explained, known={**known, **self._known})

    def compute_with(self, sinks: Sequence[pl.LazyFrame]) -> None:
        """Runs the plans that write the step's tables, and computes the metrics in the same pass.

        Args:
            sinks: lazy sinks of tables.

        Raises:
            KommunaError: a row cannot be computed.
        """
        try:
            *_, found = pl.collect_all([*sinks, self._plan], engine="streaming")
        except pl.exceptions.PolarsError as error:
            if self._explained is None:
                raise
            raise self._explained(error) from None
        computed = {name: float(value) for name, value in found.row(0, named=True).items()}
        self._values = {**self._known, **computed}

    def __getitem__(self, name: str) -> float:
        """Returns a metric."""
        if self._values is None:
            self.compute_with(())
        assert self._values is not None
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        """Iterates over the metrics' names."""
        return iter([*self._known, *self._plan.collect_schema()])

    def __len__(self) -> int:
        """Returns the number of metrics."""
        return len(self._known) + len(self._plan.collect_schema())

    def __repr__(self) -> str:
        """Shows the values, as a dict does."""
        return repr(dict(self))

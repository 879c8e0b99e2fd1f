"""Operators over the steps on tables: read, clean, mask, query, join."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from kommuna.airflow.operators.base import Input, SharedStepOperator, schema_of, texts_or_template
from kommuna.airflow.operators.failures import StepFailed
from kommuna.errors import SpecError
from kommuna.spec.installation import place_of
from kommuna.spec.step import StepSpec
from kommuna.spec.texts import distinct_texts


class ReadTableOperator(SharedStepOperator):
    """Reads CSV, NDJSON or Parquet against a declared schema. Output: `table`.

    Args:
        columns: types by column, `{"id": "String"}`, or all fields of `TableSchema`.
    """

    step = "kommuna.steps:read_table"

    def __init__(self, *, source: Input, columns: Mapping[str, Any], format: str = "auto", **options: Any) -> None:
        parameters = {"table_schema": schema_of(columns), "format": format}
        super().__init__(**self.options_of(options, inputs={"source": source}, parameters=parameters))


class CleanOperator(SharedStepOperator):
    """Normalises texts, drops empty ones, and de-duplicates by key. Output: `table`."""

    step = "kommuna.steps:clean"

    def __init__(
        self,
        *,
        table: Input,
        key: str = "id",
        text: str = "text",
        max_chars: int | str = 20_000,
        **options: Any,
    ) -> None:
        parameters = {"key": key, "text": text, "max_chars": max_chars}
        super().__init__(**self.options_of(options, inputs={"table": table}, parameters=parameters))


class MaskPiiOperator(SharedStepOperator):
    """Masks phones, cards, IBANs, INNs, SNILSs, e-mails and listed names. Output: `table`."""

    step = "kommuna.steps:mask_pii"

    def __init__(
        self, *, table: Input, text: str = "text", names: Sequence[str] = (), region: str = "RU", **options: Any
    ) -> None:
        parameters = {"text": text, "names": texts_or_template("names", names), "region": region}
        super().__init__(**self.options_of(options, inputs={"table": table}, parameters=parameters))


class PrepareMessagesOperator(SharedStepOperator):
    """Reads, cleans and masks messages in one pass. Outputs: `table`, `preparation`.

    Args:
        columns: types by column, `{"id": "String"}`, or all fields of `TableSchema`.
    """

    step = "kommuna.steps:prepare_messages"

    def __init__(
        self,
        *,
        source: Input,
        columns: Mapping[str, Any],
        key: str = "id",
        text: str = "text",
        names: Sequence[str] = (),
        region: str = "RU",
        format: str = "auto",
        since: date | str | None = None,
        max_chars: int | str = 20_000,
        **options: Any,
    ) -> None:
        parameters = {
            "table_schema": schema_of(columns),
            "key": key,
            "text": text,
            "names": texts_or_template("names", names),
            "region": region,
            "format": format,
            "since": since,
            "max_chars": max_chars,
        }
        super().__init__(**self.options_of(options, inputs={"source": source}, parameters=parameters))


class QueryOperator(SharedStepOperator):
    """Runs SQL over named tables. Output: `table`.

    Args:
        tables: the tables, by their names in the SQL.
        sql: a SELECT, or the name of a `.sql` file in the bundle.
    """

    step = "kommuna.steps:query"

    def __init__(self, *, tables: Mapping[str, Input], sql: str, **options: Any) -> None:
        super().__init__(**self.options_of(options, inputs={"tables": tables}, parameters={"sql": sql}))

    def step_spec(self, *, run_id: str = "") -> StepSpec:
        """Returns the step with the SQL that its file contains."""
        sql = str(self.parameters["sql"])
        if sql.endswith(".sql"):
            path = place_of(self.dag.fileloc).bundle / sql
            if not path.is_file():
                raise StepFailed(SpecError(f"no SQL file {sql}", where=str(path), fix="it is relative to the bundle"))
            self.parameters["sql"] = path.read_text(encoding="utf-8")
        return super().step_spec(run_id=run_id)


class AsofJoinOperator(SharedStepOperator):
    """Joins to each row the nearest row of another table: at or before, at or after, or either. Output: `table`.

    Args:
        left: the table whose rows are kept.
        right: the table that is searched for the nearest row.
        on: the column of times or numbers in both tables.
        by: columns that must be equal.
        tolerance: the maximum distance: `2h`, `30m`, `1d12h`; a number where `on` contains numbers.
        strategy: `backward`, `forward` or `nearest`.
        suffix: added to right-hand columns whose names are also in the left table.
    """

    step = "kommuna.steps:asof_join"

    def __init__(
        self,
        *,
        left: Input,
        right: Input,
        on: str,
        by: Sequence[str] = (),
        tolerance: str | None = None,
        strategy: str = "backward",
        suffix: str = "_right",
        **options: Any,
    ) -> None:
        parameters = {
            "on": on,
            "by": texts_or_template("by", by, distinct_texts),
            "tolerance": tolerance,
            "strategy": strategy,
            "suffix": suffix,
        }
        super().__init__(**self.options_of(options, inputs={"left": left, "right": right}, parameters=parameters))

"""Checks the columns that steps and rules name against the declared schema of their table."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kommuna.airflow.operators.mapped import samples
from kommuna.airflow.operators.references import STEP, is_step
from kommuna.airflow.operators.rendering import is_templated
from kommuna.cli.check.finding import Collector, line_of
from kommuna.cli.check.judges.rules_files import RulesFiles
from kommuna.errors import KommunaError, nearest
from kommuna.runtime.binding import find_step
from kommuna.spec.rules import Rule
from kommuna.spec.table import DTYPES

_KEEP_COLUMNS = ("read_table", "prepare_messages", "clean", "mask_pii")
_NAME_COLUMNS = ("apply_rules", "prepare_messages", "predict")


@dataclass(frozen=True)
class DeclaredTable:
    """A table's declared columns with their types, and the task that declares them."""

    task_id: str
    columns: Mapping[str, str]


class ColumnJudge:
    """Checks the columns that the tasks of one DAG file name. A missing column is reported once per table.

    Args:
        folder: the team's bundle.
        rules: reads the rules files that tasks name.
        found: collects the findings.
    """

    def __init__(self, folder: Path, rules: RulesFiles, found: Collector) -> None:
        self.folder = folder
        self._rules = rules
        self._found = found
        self._missing: set[tuple[str, str]] = set()

    def judge(self, task: Any, add: Callable[[Any, str, str], None]) -> None:
        """Checks a task.

        Args:
            task: the task.
            add: adds a finding about the task.
        """
        declared = _declared(task)
        if declared is None:
            return
        for parameter in ("key", "text", "label"):
            column = task.parameters.get(parameter)
            names_one = parameter in params_of(task.function) and _function(task) in _NAME_COLUMNS
            if names_one and isinstance(column, str) and not templated(column) and self._is_new(column, declared):
                add(task, f"{parameter}='{column}' is not a declared column{nearest(column, declared.columns)}",
                    f"the declared columns are: {', '.join(declared.columns)}")  # fmt: skip
        rules_file = default_of(task, task.inputs.get("rules"))
        if isinstance(rules_file, str) and "://" not in rules_file and os.path.isfile(self.folder / rules_file):  # noqa: PTH113
            self._conditions(task, self.folder / rules_file, declared)

    def _conditions(self, task: Any, file: Path, declared: DeclaredTable) -> None:
        """Tries each SQL and Python rule on an empty table of the declared columns."""
        conditions = self._rules.conditions(file)
        if not conditions:
            return
        text = file.read_text(encoding="utf-8")
        missing: dict[str, list[Rule]] = {}
        for rule in conditions:
            unknown = [column for column in self._rules.columns(rule) if column not in declared.columns]
            for column in unknown:
                missing.setdefault(column, []).append(rule)
            error = None if unknown else _failure(rule, declared)
            if error is not None:
                self._found.add(file, line_of(text, rule.name), error.what, error.fix or "fix the rule")
        for column, using in missing.items():
            if self._is_new(column, declared):
                more = f" and {len(using) - 1} more" if len(using) > 1 else ""
                what = f"rule '{using[0].name}'{more} uses the column '{column}', which task '{task.task_id}' does not"
                self._found.add(
                    file,
                    line_of(text, using[0].name),
                    f"{what} have{nearest(column, declared.columns)}",
                    f"the declared columns are: {', '.join(declared.columns)}",
                )

    def _is_new(self, column: str, declared: DeclaredTable) -> bool:
        """Whether a column is missing and has not been reported for the table."""
        if column in declared.columns or (declared.task_id, column) in self._missing:
            return False
        self._missing.add((declared.task_id, column))
        return True


def default_of(task: Any, source: Any) -> str | None:
    """Returns a plain string, or the default of the param that a template names; None if it is unknown.

    Args:
        task: the task whose DAG declares the param.
        source: the value of an input: a path, a template, or another task's output.
    """
    if not isinstance(source, str) or "{{" not in source:
        return source if isinstance(source, str) else None
    name = source.strip("{} ").removeprefix("params.")
    value = task.dag.params.get(name) if name.isidentifier() and name in task.dag.params else None
    return value if isinstance(value, str) else None


def templated(value: Any) -> bool:
    """Whether a parameter is only known in a run: a template, an SQL file, or another task's output."""
    return is_templated(value) or (isinstance(value, str) and value.endswith(".sql"))


def upstream_of(source: Mapping[str, Any]) -> Any:
    """Returns the step that an input comes from, for a mapped step one of its tasks; None if it is unknown."""
    task = getattr(source[STEP], "operator", None)
    return next(samples(task), None) if task is not None and is_step(task) else None


def params_of(function: str) -> dict[str, Any]:
    """Returns the parameters of a step; none if it cannot be found."""
    try:
        return dict(find_step(function).params)
    except KommunaError:
        return {}


def _declared(task: Any) -> DeclaredTable | None:
    """Returns the columns of a task's table, if a reading step declares them and no step in between changes them."""
    schema = task.parameters.get("table_schema")
    if isinstance(schema, Mapping):
        columns = schema.get("columns")
        return DeclaredTable(task.task_id, columns) if isinstance(columns, Mapping) else None
    for name in ("messages", "table"):
        source = task.inputs.get(name)
        if isinstance(source, Mapping) and STEP in source:
            upstream = upstream_of(source)
            return _declared(upstream) if _function(upstream) in _KEEP_COLUMNS else None
    return None


def _function(task: Any) -> str:
    return str(getattr(task, "function", "")).rpartition(":")[2]


def _failure(rule: Rule, declared: DeclaredTable) -> KommunaError | None:
    """What the step would say of a rule on such a table; what only its rows can show is left to it."""
    import polars as pl

    from kommuna.steps.etl.dtypes import polars_dtype
    from kommuna.steps.labeling.rules.expressions import condition_of

    if any(dtype not in DTYPES for dtype in declared.columns.values()):
        return None
    schema = pl.Schema({column: polars_dtype(dtype) for column, dtype in declared.columns.items()})
    try:
        condition_of(rule, schema)
    except KommunaError as error:
        return error
    return None

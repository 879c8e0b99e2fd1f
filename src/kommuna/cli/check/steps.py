"""What `kommuna check` says of a task that runs a step: its function, inputs, parameters and columns."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kommuna.cli.check.finding import Collector, line_of
from kommuna.cli.check.rules_files import RulesFiles, sql_columns
from kommuna.errors import KommunaError, nearest
from kommuna.runtime.binding import Signature, find_step
from kommuna.spec.rules import RuleSet

_STEP, _OUTPUT, _MODEL = "kommuna_step", "kommuna_output", "kommuna_model"


class StepJudge:
    """Judges the steps of one bundle's tasks."""

    def __init__(self, folder: Path, found: Collector) -> None:
        self.folder = folder
        self._found = found
        self._rules = RulesFiles(folder, found)

    def step(self, task: Any, path: Path) -> None:
        """Judges a task's step: the function, its inputs and parameters, its rules file, its columns."""
        where = task.defined_at
        try:
            signature = find_step(task.function, bundle=self.folder)
            parameters = {**task.parameters, **({"name": task.name} if "name" in _params(task.function) else {})}
            signature.check_names(task.inputs, parameters)
            signature.check_params({name: value for name, value in parameters.items() if not _templated(value)})
        except KommunaError as error:
            self._found.add(path, where, f"task '{task.task_id}': {error.what}", error.mend)
            return
        for name, source in _flat(task.inputs):
            self._input(task, name, source, signature, path)
        self._columns(task, path)

    def _input(self, task: Any, name: str, source: Any, signature: Signature, path: Path) -> None:
        if isinstance(source, Mapping) and _STEP in source:
            upstream = source[_STEP].operator
            outputs = _outputs(upstream.function, self.folder)
            wanted = source[_OUTPUT]
            if wanted is None and outputs and len(outputs) > 1:
                self._found.add(
                    path,
                    task.defined_at,
                    f"task '{task.task_id}': input '{name}' does not say which output of '{upstream.task_id}' it takes",
                    f'write {upstream.task_id}["{outputs[0]}"]; there are {", ".join(outputs)}',
                )
            elif wanted is not None and outputs and wanted not in outputs:
                self._found.add(
                    path,
                    task.defined_at,
                    f"task '{task.task_id}': '{upstream.task_id}' has no output '{wanted}'{nearest(wanted, outputs)}",
                    f"its outputs are: {', '.join(outputs)}",
                )
        elif isinstance(source, str) and "://" not in source:
            text = _default(task, source)
            if text is None or "://" in text:
                return
            file = self.folder / text
            if not file.is_file():
                self._found.add(
                    path,
                    task.defined_at,
                    f"task '{task.task_id}': input '{name}' names the file '{text}', which is not in the bundle",
                    "a plain path is relative to the bundle; store://… to the team's prefix",
                )
            elif signature.inputs[name.partition(".")[0]].annotation is RuleSet:
                self._rules.read(file)

    def _columns(self, task: Any, path: Path) -> None:
        """Columns that a step or a SQL rule names, against the schema that its table was declared with."""
        declared = self._declared(task)
        if declared is None:
            return
        for parameter in ("key", "text", "label"):
            column = task.parameters.get(parameter)
            if (
                isinstance(column, str)
                and "{{" not in column
                and column not in declared
                and parameter in _params(task.function)
                and task.function.rpartition(":")[2] in ("apply_rules", "prepare_messages", "predict")
            ):
                self._found.add(
                    path,
                    task.defined_at,
                    f"task '{task.task_id}': {parameter}='{column}' is no declared column{nearest(column, declared)}",
                    f"declared are: {', '.join(declared)}",
                )
        rules_file = _default(task, task.inputs.get("rules"))
        if not isinstance(rules_file, str) or "://" in rules_file or not (self.folder / rules_file).is_file():
            return
        rules = self._rules.read(self.folder / rules_file)
        text = (self.folder / rules_file).read_text(encoding="utf-8")
        for rule in rules.rules if rules else ():
            for column in sql_columns(rule.sql):
                if column not in declared:
                    what = f"rule '{rule.name}' uses the column '{column}', which task '{task.task_id}' does not have"
                    self._found.add(
                        self.folder / rules_file,
                        line_of(text, rule.name),
                        what + nearest(column, declared),
                        f"declared are: {', '.join(declared)}",
                    )

    def _declared(self, task: Any) -> list[str] | None:
        """The columns of the task's table, where a reading step declares them and no step between changes them."""
        schema = task.parameters.get("table_schema")
        if isinstance(schema, Mapping):
            return list(schema["columns"])
        for name in ("messages", "table"):
            source = task.inputs.get(name)
            if isinstance(source, Mapping) and _STEP in source:
                upstream = source[_STEP].operator
                same = upstream.function.rpartition(":")[2] in ("read_table", "prepare_messages", "clean", "mask_pii")
                return self._declared(upstream) if same else None
        return None


def _outputs(function: str, folder: Path) -> list[str]:
    """Names of a step's outputs, from its return annotation; empty where they cannot be told."""
    try:
        returned = typing.get_type_hints(find_step(function, bundle=folder).function).get("return")
    except (KommunaError, NameError):
        return []
    fields = getattr(returned, "_fields", None)
    return [name for name in fields if name not in ("metrics", "links")] if fields else ["result"]


def _params(function: str) -> dict[str, Any]:
    try:
        return dict(find_step(function).params)
    except KommunaError:
        return {}


def _flat(inputs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, source in inputs.items():
        if isinstance(source, Mapping) and not {_STEP, _MODEL} & set(source):
            yield from ((f"{name}.{part}", item) for part, item in source.items())
        elif isinstance(source, list):
            yield from ((f"{name}.{i}", item) for i, item in enumerate(source))
        else:
            yield name, source


def _default(task: Any, source: Any) -> str | None:
    """A plain string, or the default of the one Param that a template names; None where it cannot be told."""
    if not isinstance(source, str) or "{{" not in source:
        return source if isinstance(source, str) else None
    name = source.strip("{} ").removeprefix("params.")
    value = task.dag.params.get(name) if name.isidentifier() and name in task.dag.params else None
    return value if isinstance(value, str) else None


def _templated(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_templated(item) for item in value.values())
    return isinstance(value, str) and ("{{" in value or value.endswith(".sql"))

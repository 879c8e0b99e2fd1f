"""Checks a task that runs a step: its function, inputs, parameters and columns."""

from __future__ import annotations

import os
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kommuna.airflow.operators.references import MODEL, OUTPUT, STEP
from kommuna.cli.check.finding import Collector
from kommuna.cli.check.judges.columns import ColumnJudge, default_of, params_of, templated, upstream_of
from kommuna.cli.check.judges.rules_files import RulesFiles
from kommuna.cli.check.process.loading import Lines
from kommuna.errors import KommunaError, nearest
from kommuna.runtime.binding import Signature, find_step
from kommuna.spec.rules import RuleSet
from kommuna.spec.step import json_params


class StepJudge:
    """Checks the steps of one DAG file.

    Args:
        folder: the bundle's folder.
        path: the DAG file.
        lines: the lines that create its tasks.
        found: collects the findings.
    """

    def __init__(self, folder: Path, path: Path, lines: Lines, found: Collector) -> None:
        self.folder = folder
        self._path = path
        self._lines = lines
        self._found = found
        self._rules = RulesFiles(folder, found)
        self._columns = ColumnJudge(folder, self._rules, found)

    def judge(self, task: Any, line: int) -> None:
        """Checks a task's step: its function, inputs, parameters, rules file and columns.

        Args:
            task: the task; for a mapped step, one of its tasks.
            line: the line of the file that creates it.
        """
        self._line = line
        try:
            signature = find_step(task.function, bundle=self.folder)
            if not isinstance(task.inputs, Mapping) or not isinstance(task.parameters, Mapping):
                return  # another task provides them
            parameters = {**task.parameters, **({"name": task.name} if "name" in params_of(task.function) else {})}
            signature.check_names(task.inputs, parameters)
            given = {name: value for name, value in parameters.items() if not templated(value)}
            signature.check_params(json_params(given, task.function))
        except KommunaError as error:
            self._add(task, error.what, error.fix)
            return
        for name, source in _flat(task.inputs):
            self._input(task, name, source, signature)
        self._columns.judge(task, self._add)

    def _add(self, task: Any, what: str, fix: str) -> None:
        self._found.add(self._path, self._line, f"task '{task.task_id}': {what}", fix or "fix it", task=task.task_id)

    def _input(self, task: Any, name: str, source: Any, signature: Signature) -> None:
        if isinstance(source, Mapping) and STEP in source:
            upstream = upstream_of(source)
            if upstream is None:
                return
            self._number(task, name, source, signature)
            outputs = _outputs(upstream.function, self.folder)
            wanted = source[OUTPUT]
            if wanted is None and outputs and len(outputs) > 1:
                self._add(
                    task,
                    f"input '{name}' does not name the output of '{upstream.task_id}' that it takes",
                    f'write {upstream.task_id}["{outputs[0]}"]; its outputs are {", ".join(outputs)}',
                )
            elif wanted is not None and outputs and wanted not in outputs:
                self._add(
                    task,
                    f"'{upstream.task_id}' has no output '{wanted}'{nearest(wanted, outputs)}",
                    f"its outputs are: {', '.join(outputs)}",
                )
        elif isinstance(source, str) and "://" not in source:
            text = default_of(task, source)
            if text is None or "://" in text:
                return
            file = self.folder / text
            if not os.path.isfile(file):  # noqa: PTH113  # False of a name that no file system takes
                self._add(
                    task,
                    f"input '{name}' names the file '{text}', which is not in the bundle",
                    "a plain path is relative to the bundle; store://… to the team's prefix",
                )
            elif signature.inputs[name.partition(".")[0]].annotation is RuleSet:
                self._rules.read(file)

    def _number(self, task: Any, name: str, source: Mapping[str, Any], signature: Signature) -> None:
        """Checks that an input that gets the outputs of a mapped step, a list, takes a list."""
        upstream = source[STEP].operator
        argument, _, part = name.partition(".")
        if not upstream.is_mapped or part.isdigit():
            return
        annotation = signature.inputs[argument].annotation
        kinds = [annotation, *typing.get_args(annotation)]
        if part or not any(typing.get_origin(kind) in (list, tuple, Sequence) for kind in kinds):
            self._add(
                task,
                f"input '{name}' takes one artifact, and the mapped '{upstream.task_id}' returns a list",
                "map this task as well (`.expand`), or use a step whose input is a list",
            )


def _outputs(function: str, folder: Path) -> list[str]:
    """Returns the names of a step's outputs from its return annotation; empty if they are unknown."""
    try:
        returned = typing.get_type_hints(find_step(function, bundle=folder).function).get("return")
    except (KommunaError, NameError):
        return []
    fields = getattr(returned, "_fields", None)
    return [name for name in fields if name not in ("metrics", "links")] if fields else ["result"]


def _flat(inputs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, source in inputs.items():
        if isinstance(source, Mapping) and not {STEP, MODEL} & set(source):
            yield from ((f"{name}.{part}", item) for part, item in source.items())
        elif isinstance(source, list):
            yield from ((f"{name}.{i}", item) for i, item in enumerate(source))
        else:
            yield name, source

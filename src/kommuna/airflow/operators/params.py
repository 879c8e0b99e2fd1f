"""Validates a DAG's params before its steps run: each value against the step parameters that it is passed to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kommuna.airflow.operators.references import is_step
from kommuna.errors import SpecError, TeamMistake
from kommuna.store.parameters import parameter_types, refusal

# A template that is one param and nothing else: `{{ params.gate }}`, `{{ params["gate"] }}`.
_ONE_PARAM = re.compile(r"""^\s*\{\{\s*params(?:\.(\w+)|\[['"](\w+)['"]\])\s*\}\}\s*$""")
_SHOWN = 80


def default_mistakes(dag: Any, bundle: Path) -> dict[str, SpecError]:
    """Checks the defaults of a DAG's params against their schemas and the steps that use them.

    A param without a default, or with the default None, is filled in by the form. Returns the errors by param.

    Args:
        dag: the DAG.
        bundle: the team's folder, in which its own steps are found.
    """
    found: dict[str, SpecError] = {}
    values: dict[str, Any] = {}
    for name in dag.params:
        param = dag.params.get_param(name)
        if not param.has_value or param.value is None:
            continue
        try:
            values[name] = param.resolve()
        except Exception as error:
            first = str(error).strip().splitlines()[0].removeprefix("Invalid input for param ")
            found[name] = SpecError(
                f"params.{name}: the default does not fit its schema: {first}",
                fix="give a default that the form would accept",
            )
    return found | value_mistakes(dag, values, bundle)


def value_mistakes(dag: Any, values: Mapping[str, Any], bundle: Path) -> dict[str, SpecError]:
    """Checks values of a DAG's params against the steps that use them. Returns the first error of each param.

    Args:
        dag: the DAG.
        values: known values by param.
        bundle: the folder of the team's bundle.
    """
    found: dict[str, SpecError] = {}
    for task, parameter, param in _uses(dag):
        if param not in values or param in found:
            continue
        types = parameter_types(str(getattr(task, "function", "")), bundle=bundle)
        why = refusal(values[param], types[parameter]) if parameter in types else ""
        fix = "see the step's parameter of that name"
        judge_values = getattr(task, "judge_values", None)
        if not why and judge_values is not None:
            try:
                judge_values({parameter: values[param]})
            except TeamMistake as mistake:
                why, fix = mistake.what, mistake.fix or fix
        if why:
            shown = repr(values[param])
            shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
            found[param] = SpecError(
                f"params.{param} = {shown}: {why} (for '{parameter}' of task '{task.task_id}')", fix=fix
            )
    return found


def is_first_step(task: Any) -> bool:
    """Whether no step runs before a task."""
    return not any(is_step(above) for above in task.get_flat_relatives(upstream=True))


def _uses(dag: Any) -> Iterator[tuple[Any, str, str]]:
    """Yields each step parameter whose template is a single param: the task, the parameter, the param."""
    for task in dag.tasks:
        parameters = getattr(task, "parameters", None) if is_step(task) else None
        for parameter, value in parameters.items() if isinstance(parameters, Mapping) else ():
            match = _ONE_PARAM.match(value) if isinstance(value, str) else None
            if match:
                yield task, parameter, match[1] or match[2]

"""The base class of the named operators: an operator over one shared step takes each parameter by its own name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from airflow.sdk import XComArg

from kommuna.airflow.operators.references import Model, StepOutput
from kommuna.airflow.operators.rendering import is_templated
from kommuna.airflow.operators.step import StepOperator
from kommuna.errors import SpecError
from kommuna.spec.texts import text_list
from kommuna.spec.versions import STEPS, present_names

Input = StepOperator | StepOutput | XComArg | Model | str


class SharedStepOperator(StepOperator):
    """Runs one shared step. Its subclasses declare the step's inputs and parameters, with the step's defaults."""

    step: ClassVar[str]

    @classmethod
    def options_of(
        cls, options: Mapping[str, Any], *, inputs: Mapping[str, Any], parameters: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Returns the arguments of `StepOperator`: the step, its inputs and parameters, and the task's other options.

        Args:
            options: the arguments that the operator does not name itself. Former names of parameters are accepted.
            inputs: the step's inputs, by name.
            parameters: the step's parameters, by name.

        Raises:
            SpecError: the options contain `inputs` or `parameters`.
        """
        for name in ("inputs", "parameters"):
            if name in options:
                raise SpecError(
                    f"{cls.__name__} takes no `{name}`",
                    where=f"task {options.get('task_id')}",
                    fix="pass each by its own name, as in LabelOperator(iterations=20)",
                )
        former = {name: options[name] for name in STEPS[cls.step].renamed if name in options}
        parameters = {**parameters, **present_names(cls.step, former)}
        others = {name: value for name, value in options.items() if name not in former}
        return {**others, "function": cls.step, "inputs": inputs, "parameters": parameters}


def texts_or_template(name: str, value: Any, read: Callable[[str, Any], list[str]] = text_list) -> Any:
    """Reads a list of texts. A template, or another task's output, passes unread: the step validates its value.

    Args:
        name: the argument's name, for the error.
        value: the list, a template, or another task's output.
        read: reads a value that is not a template; it is given the name and the value.
    """
    if is_templated(value):
        return list(value) if isinstance(value, list | tuple) else value
    return read(name, value)


def schema_of(columns: Any) -> Any:
    """Returns a table's declared schema, from `{"id": "String"}` or from all fields of `TableSchema`."""
    if not isinstance(columns, Mapping) or isinstance(columns.get("columns"), Mapping):
        return columns  # a whole schema already, or a template, or another task's output
    return {"columns": dict(columns)}

"""What the named operators share: an operator over one shared step takes each of the step's parameters by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from airflow.sdk import XComArg

from kommuna.airflow.operators.references import Model, StepOutput
from kommuna.airflow.operators.rendering import is_templated
from kommuna.airflow.operators.step import StepOperator
from kommuna.errors import SpecError
from kommuna.spec.texts import text_list

Input = StepOperator | StepOutput | XComArg | Model | str


class SharedStepOperator(StepOperator):
    """Runs one shared step. Its subclasses name the step's inputs and parameters, with the step's own defaults."""

    step: ClassVar[str]

    @classmethod
    def options_of(
        cls, options: Mapping[str, Any], *, inputs: Mapping[str, Any], parameters: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What `StepOperator` is made of: the step, what goes into it, and the task's other options.

        Raises:
            SpecError: the options give inputs or parameters in a dict.
        """
        for name in ("inputs", "parameters"):
            if name in options:
                raise SpecError(
                    f"{cls.__name__} takes no `{name}`",
                    where=f"task {options.get('task_id')}",
                    fix="give each by its own name, as in LabelOperator(iterations=20)",
                )
        return {**options, "function": cls.step, "inputs": inputs, "parameters": parameters}


def texts_or_template(name: str, value: Any, read: Callable[[str, Any], list[str]] = text_list) -> Any:
    """A list of texts, or what a template or another task makes one of: the step judges that."""
    if is_templated(value):
        return list(value) if isinstance(value, list | tuple) else value
    return read(name, value)


def schema_of(columns: Any) -> Any:
    """A table's declared schema: `{"id": "String"}`, or all of `TableSchema`'s fields."""
    if not isinstance(columns, Mapping) or isinstance(columns.get("columns"), Mapping):
        return columns  # whole already, or what a template or another task gives
    return {"columns": dict(columns)}

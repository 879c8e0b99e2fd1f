"""Mapped steps: `StepOperator.partial(…).expand(…)` with resources, and with outputs as inputs of other steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from airflow.sdk.definitions._internal.expandinput import ExpandInput, ListOfDictsExpandInput
from airflow.sdk.definitions.mappedoperator import MappedOperator, OperatorPartial
from airflow.sdk.definitions.xcom_arg import PlainXComArg, XComArg
from airflow.sdk.exceptions import AirflowException

from kommuna.airflow.operators.references import OUTPUT, STEP, XCOM_RETURN_KEY, StepOutput, is_step, reference_outputs
from kommuna.errors import SpecError

MAX_SAMPLES = 20
_PARSE_TIME = ("step_resources", "executor_config", "cache")  # the scheduler needs these before it expands


class MappedStep(MappedOperator):
    """A mapped step in a DAG file. An output is named as that of an ordinary step and lists one artifact per task."""

    __slots__ = ()

    def __getitem__(self, output: str) -> StepOutput:
        """Returns one named output of each task, as a list input of another step."""
        return StepOutput(self, output)


class StepPartial(OperatorPartial):
    """The result of `StepOperator.partial()`: Airflow's own, whose arguments may also be steps' outputs."""

    def expand(self, **mapped_kwargs: Any) -> MappedOperator:
        """Maps the step over lists, mappings or other tasks' outputs."""
        self._refuse_parse_time(mapped_kwargs)
        return super().expand(**{name: _to_map_over(value) for name, value in mapped_kwargs.items()})

    def expand_kwargs(self, kwargs: Any, *, strict: bool = True) -> MappedOperator:
        """Maps the step over a list of argument mappings."""
        for item in kwargs if isinstance(kwargs, list | tuple) else ():
            self._refuse_parse_time(item if isinstance(item, Mapping) else ())
        return super().expand_kwargs(
            kwargs if isinstance(kwargs, XComArg) else reference_outputs(kwargs), strict=strict
        )

    def _refuse_parse_time(self, names: Iterable[str]) -> None:
        for name in sorted({*names} & {*_PARSE_TIME}):
            self._expand_called = True  # otherwise Airflow also warns about an unexpanded partial
            raise SpecError(
                f"task '{self.kwargs['task_id']}' is mapped over `{name}`",
                fix="pass it to partial(): it is the same for all tasks of a mapped step",
            )

    def _expand(self, expand_input: ExpandInput, *, strict: bool) -> MappedOperator:
        self.kwargs = {name: _with_references(name, value) for name, value in self.kwargs.items()}
        task = super()._expand(expand_input, strict=strict)
        task.__class__ = MappedStep
        for name, value in self.kwargs.items():
            if name not in ("dag", "task_group"):  # Airflow itself looks only at the template fields
                XComArg.apply_upstream_relationship(task, value)
        return task


def partial_of(operator_class: Any, made: OperatorPartial) -> StepPartial:
    """Turns Airflow's partial of a step's operator into a `StepPartial`."""
    made._expand_called = True  # it is replaced
    return StepPartial(operator_class=operator_class, kwargs=made.kwargs, params=made.params)


def _with_references(name: str, value: Any) -> Any:
    return value if name in ("dag", "task_group") else reference_outputs(value)


def _to_map_over(value: Any) -> Any:
    """Returns the value to map over: a list, another task's list, or the results of a mapped step's tasks."""
    if isinstance(value, StepOutput):
        _require_many(value.operator)
        return value.operator.output.map(_output_picker(value.output))
    if hasattr(value, "task_id") and hasattr(value, "output"):
        value = value.output
    if isinstance(value, PlainXComArg) and is_step(value.operator):
        if value.key != XCOM_RETURN_KEY:
            return _to_map_over(StepOutput(value.operator, value.key))
        _require_many(value.operator)
    return value if isinstance(value, XComArg) else reference_outputs(value)


def _output_picker(output: str) -> Callable[[Any], Any]:
    """Returns a function that takes a step's result to one of its outputs."""

    def pick(result: Any) -> Any:
        return {STEP: result, OUTPUT: output}

    return pick


def _require_many(step: Any) -> None:
    """Raises if a step is not mapped itself: its result is not a list."""
    if not step.is_mapped and step.get_closest_mapped_task_group() is None:
        raise SpecError(
            f"cannot map over step '{step.task_id}': it returns one result, not a list",
            fix="map over a list, over a task that returns one, or over a mapped step",
        )


def samples(task: Any, refused: Callable[[Exception], None] = lambda _: None) -> Iterator[Any]:
    """Yields a mapped step's tasks, as far as they are known before a run. Outputs of other tasks stay references.

    Args:
        task: a mapped step; an ordinary step is its own only sample.
        refused: called with the error of a task that cannot be made from the mapped values; that task is left out.
    """
    if not task.is_mapped:
        yield task
        return
    for given in _given_kwargs(task._get_specified_expand_input())[:MAX_SAMPLES]:
        try:
            yield task.unmap(given)
        except AirflowException:
            continue  # a missing argument comes from another task
        except Exception as error:  # the operator and Airflow validate their arguments in the constructor
            refused(error)


def _item(value: Any) -> Any:
    return value


def _given_kwargs(expand_input: Any) -> list[dict[str, Any]]:
    """Returns the arguments that the DAG file itself maps over, with the lists read side by side."""
    value = expand_input.value
    if isinstance(expand_input, ListOfDictsExpandInput):
        return [dict(item) for item in value if isinstance(item, Mapping)] if isinstance(value, list) else [{}]
    lists = {
        name: list(given.items()) if isinstance(given, Mapping) else list(given)
        for name, given in value.items()
        if not hasattr(given, "iter_references")
    }
    # A reference to one item: a list that another task returns must not stand for its items.
    references = {
        name: given.map(_item) if isinstance(given, XComArg) else given
        for name, given in value.items()
        if name not in lists
    }
    longest = max((len(items) for items in lists.values()), default=1)
    return [
        references | {name: items[min(i, len(items) - 1)] for name, items in lists.items() if items}
        for i in range(longest)
    ]

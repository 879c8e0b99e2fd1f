"""A step's inputs in a DAG file: as plain data that Airflow renders, and then as the runtime's specs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.definitions.xcom_arg import PlainXComArg, XComArg

from kommuna.airflow.operators.failures import StepFailed
from kommuna.errors import StepNotFound, nearest
from kommuna.spec.step import ArtifactInput, FileInput, Input, InputTree, ModelInput

STEP, OUTPUT, MODEL = "kommuna_step", "kommuna_output", "kommuna_model"
XCOM_RETURN_KEY = BaseXCom.XCOM_RETURN_KEY


@dataclass(frozen=True)
class StepOutput:
    """One named output of a step: `train["model"]`. For a mapped step it stands for that output of each task."""

    operator: Any
    output: str


@dataclass(frozen=True)
class Model:
    """A registered model as an input.

    Args:
        name: the model's name in the team's registry workspace.
        alias: the version: `champion` or `challenger`.
        optional: if true, the input is None where there is no such version.
        unless: a model; the input is None where the version is that same model, so there is nothing to compare.
    """

    name: str
    alias: str = "champion"
    optional: bool = False
    unless: StepOutput | None = None


def is_step(task: Any) -> bool:
    """Whether a task, mapped or not, runs a step."""
    return hasattr(getattr(task, "operator_class", task), "step_spec")


def reference(source: Any) -> Any:
    """Returns an input as a template field: plain data in which Airflow finds and resolves the upstream XCom.

    Args:
        source: a task, its `output`, one of a step's outputs, a `Model`, a file, or lists and mappings of them.
    """
    if isinstance(source, StepOutput):
        return {STEP: source.operator.output, OUTPUT: source.output}
    if isinstance(source, PlainXComArg) and is_step(source.operator):
        named = None if source.key == XCOM_RETURN_KEY else source.key
        return {STEP: source.operator.output, OUTPUT: named}
    if isinstance(source, XComArg):
        return source  # the value of another task: a file's name, or a step's result that it passes on
    if isinstance(source, Model):
        unless = {"unless": reference(source.unless)} if source.unless else {}
        return {MODEL: source.name, "alias": source.alias, "optional": source.optional, **unless}
    if hasattr(source, "output") and hasattr(source, "task_id"):
        return reference(source.output)
    if isinstance(source, Mapping):
        return dict(source) if STEP in source else {name: reference(item) for name, item in source.items()}
    if isinstance(source, list | tuple):
        return [reference(item) for item in source]
    return source


def reference_outputs(value: Any) -> Any:
    """Replaces steps' outputs in a value by references. For mapped arguments, which may or may not be inputs."""
    if isinstance(value, StepOutput | Model) or (is_step(value) and hasattr(value, "task_id")):
        return reference(value)
    if isinstance(value, PlainXComArg) and is_step(value.operator):
        return reference(value)
    if type(value) is dict and STEP not in value:
        return {name: reference_outputs(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [reference_outputs(item) for item in value]
    return value


def input_tree(name: str, value: Any) -> InputTree:
    """Turns a rendered input into the runtime's spec.

    Args:
        name: the input's name, for the error.
        value: a result of a step, a path, a model, or a list or mapping of these.

    Raises:
        StepFailed: the upstream task left nothing, or has no such output.
    """
    if value is None:
        return None
    if isinstance(value, Mapping) and not ({STEP, MODEL} & set(value) or _is_result(value)):
        return {str(part): _single(f"{name}.{part}", item) for part, item in value.items()}
    found = list(_all(name, value))
    return found if _is_many(value) else found[0]


def _is_many(value: Any) -> bool:
    """Whether a rendered input is a list: one of the DAG file, or the results of a mapped step's tasks."""
    if isinstance(value, Mapping):
        return STEP in value and _is_many(value[STEP])
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_result(value: Mapping[str, Any]) -> bool:
    """Whether a value is the XCom of a step's task."""
    return isinstance(value.get("key"), str) and isinstance(value.get("outputs"), Mapping)


def _single(name: str, value: Any) -> Input:
    found = list(_all(name, value))
    if len(found) != 1 or _is_many(value):
        raise _not_an_input(
            f"input '{name}': {len(found)} artifacts where one is expected",
            "the outputs of a mapped step are a list: pass them to an input that takes a list",
        )
    return found[0]


def _all(name: str, value: Any) -> Iterator[Input]:
    """Yields every input in a rendered value, in order."""
    if isinstance(value, str):
        yield FileInput.read({"url": value}, where=f"input '{name}'")
    elif isinstance(value, Mapping) and MODEL in value:
        unless = _single(name, value["unless"]) if value.get("unless") else None
        assert unless is None or isinstance(unless, ArtifactInput)
        yield ModelInput(model=value[MODEL], alias=value["alias"], optional=value["optional"], unless=unless)
    elif isinstance(value, Mapping) and STEP in value:
        yield from _artifacts(name, value[STEP], value[OUTPUT])
    elif isinstance(value, Mapping) and _is_result(value):
        yield _artifact(name, value, None)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _all(name, item)
    elif value is None:
        raise _not_an_input(
            f"input '{name}': the upstream task left nothing", "see its log: it was skipped, or returned None"
        )
    else:
        raise _not_an_input(
            f"input '{name}' is {str(value)[:80]!r} ({type(value).__name__}), which is not an input",
            "pass a step's output, a Model or the name of a file",
        )


def _artifacts(name: str, result: Any, output: str | None) -> Iterator[Input]:
    """Yields one output of a step's result, or of each result of a mapped step."""
    if isinstance(result, Mapping) and _is_result(result):
        yield _artifact(name, result, output)
    elif isinstance(result, Sequence) and not isinstance(result, str):
        for one in result:
            yield from _artifacts(name, one, output)
    else:
        yield from _all(name, result)  # raises the error that describes it


def _artifact(name: str, result: Mapping[str, Any], output: str | None) -> ArtifactInput:
    outputs = result["outputs"]
    if output is None:
        if len(outputs) != 1:
            what = f"input '{name}': the upstream step has the outputs {', '.join(outputs)}"
            raise _not_an_input(what, f'name one: task["{next(iter(outputs), "name")}"]')
        output = next(iter(outputs))
    if output not in outputs:
        what = f"input '{name}': the upstream step left no '{output}'{nearest(output, outputs)}"
        raise _not_an_input(what, f"it left {', '.join(outputs)}")
    given = {"manifest": result["key"], "output": output, "digest": str(outputs[output]).partition(".")[0]}
    return ArtifactInput.read(given, where=f"input '{name}'")


def _not_an_input(what: str, fix: str) -> StepFailed:
    return StepFailed(StepNotFound(what, fix=fix))

"""`kommuna steps`: lists the shared steps with their operators, inputs and outputs."""

from __future__ import annotations

import inspect
import typing
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from kommuna.cli.here import console
from kommuna.cli.tables import AsJson, print_json, print_table, records
from kommuna.errors import StepNotFound, nearest

app = typer.Typer()

_COLUMNS = ("operator", "step", "inputs", "outputs", "does")


@dataclass(frozen=True)
class ListedStep:
    """A shared step and its operator.

    Attributes:
        operator: the operator's class in `kommuna.airflow`.
        address: `module:function` of the step.
        inputs: names of the inputs; an optional one ends with `?`.
        outputs: names of the outputs.
    """

    operator: Any
    address: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def row(self) -> tuple[str, str, str, str, str]:
        """The row of the table."""
        does = inspect.cleandoc(self.operator.__doc__).splitlines()[0]
        does = does.partition(" Output")[0]
        return self.operator.__name__, self.address, ", ".join(self.inputs), ", ".join(self.outputs), does


@app.command()
def steps(
    operator: Annotated[str, typer.Argument(help="An operator: shows its arguments.")] = "", as_json: AsJson = False
) -> None:
    """List the shared steps and their operators, or show one operator's arguments."""
    every = shared_steps()
    if operator:
        _show(operator, every, as_json=as_json)
    elif as_json:
        print_json(records(_COLUMNS, [step.row for step in every]))
    else:
        print_table(console, _COLUMNS, [step.row for step in every])
        console.print(
            "\n`kommuna steps OPERATOR` shows its arguments. StepOperator runs a step of the team's bundle, "
            "ImageOperator a step in its own image.",
        )


def shared_steps() -> list[ListedStep]:
    """Returns every shared step that has an operator, in the order in which a DAG uses them."""
    from kommuna.airflow.operators import shared_operators
    from kommuna.runtime.binding import find_step

    found = []
    for operator in shared_operators():
        signature = find_step(operator.step)
        inputs = tuple(name if a.required else f"{name}?" for name, a in signature.inputs.items())
        found.append(ListedStep(operator, operator.step, inputs, _outputs(signature.function)))
    return found


def _outputs(function: Any) -> tuple[str, ...]:
    made = typing.get_type_hints(function)["return"]
    return tuple(name for name in getattr(made, "_fields", ("result",)) if name not in ("metrics", "links"))


def _show(name: str, every: list[ListedStep], *, as_json: bool) -> None:
    names = [step.operator.__name__ for step in every]
    if name not in names:
        raise StepNotFound(f"no operator '{name}'{nearest(name, names)}", fix=f"the operators are: {', '.join(names)}")
    step = every[names.index(name)]
    rows = [
        (argument.name, str(argument.annotation), "" if argument.default is argument.empty else repr(argument.default))
        for argument in inspect.signature(step.operator.__init__).parameters.values()
        if argument.kind is argument.KEYWORD_ONLY
    ]
    columns = ("argument", "type", "default")
    if as_json:
        print_json(dict(zip(_COLUMNS, step.row, strict=True)) | {"arguments": records(columns, rows)})
        return
    console.print(inspect.cleandoc(step.operator.__doc__))
    console.print(f"\nstep {step.address}, outputs: {', '.join(step.outputs)}\n")
    print_table(console, columns, rows)

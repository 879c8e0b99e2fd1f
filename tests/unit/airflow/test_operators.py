"""A named operator offers its whole step: every input and parameter by name, with the step's default."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from kommuna.airflow.operators import shared_operators
from kommuna.airflow.operators.base import SharedStepOperator
from kommuna.errors import SpecError
from kommuna.runtime.binding import find_step
from kommuna.spec.versions import VERSIONS

OPERATORS = shared_operators()
# What the platform gives a step, and the operator to nobody.
FROM_THE_PLATFORM = {"context", "kept", "llm", "registry"}
# Parameters that an operator offers otherwise, and why.
DIFFERENCES = {
    ("ReadTableOperator", "table_schema"): "`columns` is shorter, and takes all of it",
    ("PrepareMessagesOperator", "table_schema"): "`columns` is shorter, and takes all of it",
    ("RefineRulesOperator", "model"): "the platform's heavy LLM",
    ("ApplyRulesOperator", "asking"): "empty where it is left out: the platform's light LLM is filled in",
    ("RefineRulesOperator", "budget"): "nothing where it is left out",
}


def step_of(operator: type[SharedStepOperator]) -> inspect.Signature:
    return inspect.signature(inspect.unwrap(find_step(operator.step).function))


def test_every_shared_step_has_an_operator() -> None:
    assert [operator.step for operator in OPERATORS] == [step for step in VERSIONS if step not in {
        "kommuna.steps:check",  # of the platform's own check
        "kommuna.steps:ask_votes",  # part of apply_rules
    }]  # fmt: skip


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.__name__)
def test_an_operator_offers_every_input_and_parameter_of_its_step(operator: type[SharedStepOperator]) -> None:
    offered = inspect.signature(operator.__init__).parameters
    for name, wanted in step_of(operator).parameters.items():
        if name in FROM_THE_PLATFORM or (operator.__name__, name) in DIFFERENCES:
            continue
        assert name in offered, f"{operator.__name__} hides {name}"
        assert offered[name].default == wanted.default, name


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.__name__)
@pytest.mark.parametrize("options", [{"parameters": {"seed": 1}}, {"inputs": {"votes": "votes.parquet"}}])
def test_named_inputs_and_parameters_are_not_accepted_in_a_dict(
    operator: type[SharedStepOperator], options: dict[str, Any]
) -> None:
    needed = {
        name: "x"
        for name, parameter in inspect.signature(operator.__init__).parameters.items()
        if parameter.default is inspect.Parameter.empty and parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    with pytest.raises(SpecError, match=rf"{operator.__name__} takes no `{next(iter(options))}`") as error:
        operator(task_id="t", **needed, **options)
    assert "pass each by its own name" in error.value.fix

"""Steps found by name in a module."""

from __future__ import annotations

import typing
from pathlib import Path

import pytest

from kommuna.errors import SpecError, StepNotFound
from kommuna.runtime.binding import find_function, find_step
from kommuna.spec.versions import STEPS


def test_the_steps_that_a_module_has_are_its_own_functions(tmp_path: Path) -> None:
    (tmp_path / "bank_binding_steps.py").write_text(
        "from typing import NamedTuple\nfrom textwrap import dedent\n\n\ndef count(table): ...\n"
    )
    with pytest.raises(StepNotFound) as error:
        find_function("bank_binding_steps:cuont", bundle=tmp_path)
    assert error.value.fix == "it has: count"


def test_half_a_character_in_a_parameter_is_a_mistake_like_any() -> None:
    with pytest.raises(SpecError, match=r"parameter 'region' of step .*: no region '\?'") as error:
        find_step("kommuna.steps:prepare_messages").check_params({"region": "\ud83d"})
    assert error.value.fix.startswith("give Unicode text")


def numbers(annotation: object) -> bool:
    """Whether a value of the type may be any number at all."""
    if typing.get_origin(annotation) is typing.Annotated:
        return False
    return annotation in (int, float) or any(map(numbers, typing.get_args(annotation)))


@pytest.mark.parametrize("step", STEPS)
def test_a_number_that_a_shared_step_takes_has_bounds_that_are_known_before_a_run(step: str) -> None:
    unbounded = [name for name, argument in find_step(step).params.items() if numbers(argument.annotation)]
    assert unbounded == []


@pytest.mark.parametrize(
    ("step", "given", "words", "type_"),
    [
        ("train_classifier", {"dev_weight": 0}, "'dev_weight'.*: expected a number above 0.0, found 0", "float"),
        ("train_classifier", {"max_rows": 0}, "'max_rows'.*: expected a number of at least 1, found 0", "int | None"),
        ("evaluate", {"max_text_overlap": "nan"}, "'max_text_overlap'.*: expected a number of at most 1.0", "float"),
        ("mask_pii", {"region": "XX"}, "no region 'XX'", "str"),
        ("label_messages", {"memory": "4 GB"}, "'4 GB' is not a memory quantity", "str"),
    ],
)
def test_a_parameter_out_of_its_bounds_is_named_with_its_type_in_plain_words(
    step: str, given: dict[str, object], words: str, type_: str
) -> None:
    with pytest.raises(SpecError, match=words) as error:
        find_step(f"kommuna.steps:{step}").check_params(given)
    assert error.value.fix == f"its type is {type_}"

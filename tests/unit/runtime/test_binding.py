"""Steps found by name in a module."""

from __future__ import annotations

from pathlib import Path

import pytest

from kommuna.errors import SpecError, StepNotFound
from kommuna.runtime.binding import find_function, find_step


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

"""Steps found by name in a module."""

from __future__ import annotations

from pathlib import Path

import pytest

from kommuna.errors import StepNotFound
from kommuna.runtime.binding import find_function


def test_the_steps_that_a_module_has_are_its_own_functions(tmp_path: Path) -> None:
    (tmp_path / "bank_binding_steps.py").write_text(
        "from typing import NamedTuple\nfrom textwrap import dedent\n\n\ndef count(table): ...\n"
    )
    with pytest.raises(StepNotFound) as error:
        find_function("bank_binding_steps:cuont", bundle=tmp_path)
    assert error.value.mend == "it has: count"

"""Types of a step's parameters, read from its source, and what they make of values."""

from __future__ import annotations

import re
import sys
import typing
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path

import pytest

from kommuna.runtime.binding import find_step
from kommuna.store.key import cache_key
from kommuna.store.parameters import canonical, cast_rendered, parameter_types, refusal

SOURCE = """
from __future__ import annotations
import datetime
from typing import Annotated, Any, Literal
from collections.abc import Sequence
from pydantic import BeforeValidator, Field
from elsewhere import Colour, Shape

Share = Annotated[float, Field(ge=0)]
def half(value): return value / 2

def step(table: int, *, share: Share, least: float = 0.0, name: str = "x", names: Sequence[str] = (), since: str | None = None,
         day: datetime.date, colour: Colour = "red", either: "int | None" = None, odd: Annotated[float, BeforeValidator(half)] = 1,
         shape: Shape = None, anything: Any = None, bare=1) -> int:
    return 1
"""
ELSEWHERE = 'from typing import Literal\nColour = Literal["red", "blue"]\nclass Shape: pass\n'


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(SOURCE)
    (tmp_path / "elsewhere.py").write_text(ELSEWHERE)
    (tmp_path / "shown.py").write_text("from mine import step as public\n")
    return tmp_path


def test_types_are_read_without_importing_the_step(bundle: Path) -> None:
    types = parameter_types("shown:public", bundle=bundle)
    assert refusal(-1, types.pop("share")) == "expected a number of at least 0.0, found -1"
    assert types == {
        "least": float,
        "name": str,
        "names": Sequence[str],
        "since": str | None,
        "day": date,
        "colour": typing.Literal["red", "blue"],
        "either": int | None,
        "anything": typing.Any,
    }
    assert not {"mine", "elsewhere", "shown"} & set(sys.modules)


@pytest.mark.parametrize("function", ["mine:no", "no:step", "mine", "broken:f"])
def test_a_step_that_cannot_be_read_has_no_types(bundle: Path, function: str) -> None:
    (bundle / "broken.py").write_text("def f(:\n")
    assert parameter_types(function, bundle=bundle) == {}


def test_the_types_of_every_shared_step_are_those_that_its_signature_has(root: Path) -> None:
    source = (root / "src/kommuna/airflow/operators.py").read_text()
    functions = re.findall(r'^    step = "([^"]+)"', source, re.MULTILINE)
    assert len(functions) > 12
    for function in functions:
        declared = {name: argument.annotation for name, argument in find_step(function).params.items()}
        types = {name: known for name, known in parameter_types(function).items() if name in declared}
        for name, known in types.items():  # bounds are equal by what they show alone
            assert known == declared[name] or repr(known) == repr(declared[name])
        assert set(declared) - set(types) <= {"model"}  # a label model's name has a validator


@pytest.mark.parametrize("written", [0, 0.0, "0", "0.0"])
def test_a_number_written_in_another_way_has_the_same_key(bundle: Path, written: object) -> None:
    types = parameter_types("mine:step", bundle=bundle)
    key = cache_key("mine:step", "code", canonical({"least": written, "share": 1}, types), {})
    assert key == cache_key("mine:step", "code", canonical({"least": 0.0, "share": 1.0}, types), {})


def test_texts_that_look_like_numbers_keep_their_keys_apart(bundle: Path) -> None:
    types = parameter_types("mine:step", bundle=bundle)
    values = [{"name": "0"}, {"name": "0.0"}, {"name": "None"}, {"odd": 2}, {"odd": 2.0}, {"least": 1}, {"least": "x"}]
    assert len({cache_key("f:f", "c", canonical(value, types), {}) for value in values}) == len(values)


@pytest.mark.parametrize(
    ("value", "wanted", "found"),
    [
        ("42", str, "42"),
        (42, str, "42"),
        (True, str, "True"),
        ("20260101", str, "20260101"),
        ("42", int, 42),
        ("+4915", int, 4915),
        ("0.5", float, 0.5),
        ("True", bool, True),
        (None, str | None, None),
        (5, str | None, "5"),
        ("1,2", list[str], "1,2"),  # is no list: the runtime refuses it
        ('["1", "2"]', list[str], ["1", "2"]),
        ([1, "2"], list[str], ["1", "2"]),
        ("2026-01-02", date, "2026-01-02"),
        (datetime(2026, 1, 2), str, "2026-01-02 00:00:00"),
        ({"a": (1, 2)}, None, {"a": [1, 2]}),
        (datetime(2026, 1, 2), None, "2026-01-02T00:00:00"),
        ("two", int, "two"),
    ],
)
def test_what_a_template_rendered_becomes_what_the_step_declares(value: object, wanted: object, found: object) -> None:
    cast = cast_rendered(value, wanted)
    assert cast == found
    assert type(cast) is type(found)

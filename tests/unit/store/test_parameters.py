"""Types of a step's parameters, read from its source, and the conversion of values to them."""

from __future__ import annotations

import json
import sys
import typing
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from kommuna.runtime.binding import find_step
from kommuna.spec.versions import STEPS
from kommuna.store.parameters import canonical_params, cast_rendered, parameter_types, refusal


class Tint(Enum):
    RED = "red"


SOURCE = """
from __future__ import annotations
import datetime
from typing import Annotated, Any, Literal
from collections.abc import Sequence
from pydantic import BeforeValidator, Field
from elsewhere import Colour, Shape

Share = Annotated[float, Field(ge=0)]
LIMIT = 5
def half(value): return value / 2

def step(table: int, *, share: Share, least: float = 0.0, name: str = "x", names: Sequence[str] = (), since: str | None = None,
         day: datetime.date, colour: Colour = "red", either: "int | None" = None, odd: Annotated[float, BeforeValidator(half)] = 1,
         shape: Shape = None, anything: Any = None, bare=1, whole: int | None = None, when: datetime.date | None = None, tags: set[str] = {"a", "b"},
         limit: int = LIMIT) -> int:
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
        "whole": int | None,
        "when": date | None,
        "tags": set[str],
        "limit": int,
    }
    assert not {"mine", "elsewhere", "shown"} & set(sys.modules)


@pytest.mark.parametrize("function", ["mine:no", "no:step", "mine", "broken:f"])
def test_an_unreadable_step_has_no_types(bundle: Path, function: str) -> None:
    (bundle / "broken.py").write_text("def f(:\n")
    assert parameter_types(function, bundle=bundle) == {}


def test_the_types_of_every_shared_step_equal_its_signature() -> None:
    for function in STEPS:
        declared = {name: argument.annotation for name, argument in find_step(function).params.items()}
        types = {name: known for name, known in parameter_types(function).items() if name in declared}
        for name, known in types.items():  # bounds are equal by what they show alone
            assert known == declared[name] or repr(known) == repr(declared[name])
        assert set(declared) - set(types) <= {"model"}  # a label model's name has a validator


def canonical(bundle: Path, /, **params: Any) -> str:
    return json.dumps(canonical_params("mine:step", params, bundle=bundle))


@pytest.mark.parametrize("written", [0, 0.0, "0", "0.0"])
def test_other_spellings_of_a_number_are_equal(bundle: Path, written: object) -> None:
    assert canonical(bundle, least=written, share=1) == canonical(bundle, share=1.0)


@pytest.mark.parametrize(
    "given",
    [{"name": "x"}, {"since": None}, {"colour": "red"}, {"either": None}, {"anything": None}, {"when": None},
     {"tags": ["a", "b"]}, {"tags": ["b", "a"]}, {"limit": 5}, {"limit": "5"}],
)  # fmt: skip
def test_a_default_may_be_given_or_omitted(bundle: Path, given: dict[str, Any]) -> None:
    assert canonical(bundle, **given) == canonical(bundle)


def test_values_that_a_step_can_distinguish_are_different(bundle: Path) -> None:
    values: list[dict[str, Any]] = [
        {"name": "0"}, {"name": "0.0"}, {"name": "None"}, {"odd": 2}, {"odd": 2.0}, {"least": 1}, {"least": "x"},
        {"least": "inf"}, {"least": None}, {"least": -0.0}, {"anything": 0}, {"anything": 0.0}, {"anything": False},
        {"anything": "0"}, {"anything": {"a": 1, "b": 2}}, {"anything": {"b": 2, "a": 1}}, {"anything": [1, 2]},
        {"anything": [2, 1]}, {"anything": {"$float": "inf"}}, {"either": 1}, {"either": True}, {"either": 0},
        {"odd": 1}, {"names": []}, {"whole": 1}, {"whole": 1.0}, {"tags": ["a"]}, {"limit": 6},
    ]  # fmt: skip
    made = [canonical(bundle, **value) for value in [{}, *values]]
    same = [("either", 1, True), ("whole", 1, 1.0)]  # to an `int | None` and an `int` they are one number
    assert len(set(made)) == len(made) - len(same)
    for name, one, other in same:
        assert canonical(bundle, **{name: one}) == canonical(bundle, **{name: other})


def test_the_order_of_a_tables_columns_counts() -> None:
    step = "kommuna.steps:read_table"
    columns = {"id": "String", "text": "String"}
    one, two, given, with_default = (
        json.dumps(canonical_params(step, {"table_schema": {"columns": made} | more}, bundle=None))
        for made, more in (
            (columns, {}), (dict(reversed(columns.items())), {}), (columns, {}), (columns, {"required": []}),
        )
    )  # fmt: skip
    assert one == given == with_default
    assert one != two


def test_the_parameters_of_an_unreadable_step_are_unchanged(bundle: Path) -> None:
    given = {"b": {"y": 1, "x": 0}, "a": 1.0}
    assert json.dumps(canonical_params("no:step", given, bundle=bundle)) == (
        '{"a": {"$given": 1.0}, "b": {"$given": {"y": 1, "x": 0}}}'
    )


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
        (date(2026, 1, 2), date, "2026-01-02"),
        (Decimal("0.10"), Decimal, "0.10"),
        (Decimal("0.5"), float, 0.5),
        (timedelta(hours=1), timedelta, "PT1H"),
        (Path("a/b"), Path, "a/b"),
        (Path("a/b"), str, "a/b"),
        (UUID(int=1), UUID, str(UUID(int=1))),
        (Tint.RED, str, "red"),
        (Tint.RED, None, "red"),
        (b"a", str, "a"),
        ({"b", "a"}, set[str], ["a", "b"]),
        ({"b", "a"}, list[str], ["a", "b"]),
        ({"b", "a"}, None, ["a", "b"]),
        ({1: date(2026, 1, 2)}, dict[int, date], {"1": "2026-01-02"}),
        (np.float64(0.5), float, 0.5),
        (np.int64(5), None, 5),
        ({"factor": np.int64(5)}, dict[str, int], {"factor": 5}),
    ],
)
def test_a_rendered_template_is_converted_to_the_declared_type(value: object, wanted: object, found: object) -> None:
    cast = cast_rendered(value, wanted)
    assert cast == found
    assert type(cast) is type(found)


@pytest.mark.parametrize("wanted", [float, float | None, typing.Any, None, list[float]])
def test_values_that_json_lacks_never_become_null(wanted: object) -> None:
    value = [float("nan")] if wanted == list[float] else float("nan")
    assert repr(cast_rendered(value, wanted)) == repr(value)  # the step's spec refuses it by name


def test_half_a_character_from_a_template_is_refused_with_an_explanation() -> None:
    wanted = parameter_types("kommuna.steps:prepare_messages")["region"]
    assert refusal("\ud83d", wanted).startswith("no region '?'")

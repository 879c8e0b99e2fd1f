"""Every problem that a model or a parameter may have is reported in our words, with the value that was found."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import pytest
from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core.core_schema import ErrorType

from kommuna.errors import SpecError
from kommuna.spec.resources import Resources
from kommuna.spec.rules import RuleSet
from kommuna.spec.step import StepSpec
from kommuna.spec.table import TableSchema
from kommuna.spec.words import _expected, in_words, problems

PYDANTICS = ("Input should", "should be a valid", "unable to parse", "Field required", "Value error")


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        (str, True, "expected a text, found true: put it in quotes (YAML reads yes, no, on and off as such)"),
        (str, 1, "expected a text, found 1: put it in quotes"),
        (str, ["a"], "expected a text, found ['a']"),
        (str, None, "expected a text, found nothing"),
        (int, "many", "expected a whole number, found 'many'"),
        (int, 1.5, "expected a whole number, found 1.5"),
        (float, "x", "expected a number, found 'x'"),
        (bool, "perhaps", "expected true or false, found 'perhaps'"),
        (list[str], "Иван", "expected a list, found 'Иван'"),
        (tuple[str, ...], "Иван", "expected a list, found 'Иван'"),
        (dict[str, int], [1], "expected a mapping of names to values, found [1]"),
        (Literal["up", "down"], "left", "expected one of 'up', 'down', found 'left'"),
        (Annotated[int, Field(ge=0)], -1, "expected a number of at least 0, found -1"),
        (Annotated[float, Field(gt=0, lt=1)], 2, "expected a number below 1.0, found 2"),
        (Annotated[str, Field(pattern="^[a-z]+$")], "A", "expected a text that matches ^[a-z]+$, found 'A'"),
        (Annotated[list[int], Field(min_length=1)], [], "needs at least 1 item, has 0"),
        (datetime.date, "soon", "expected a date, as in 2026-01-31, found 'soon'"),
        (Path, 1, "expected a path, found 1"),
    ],
)
def test_a_problem_says_what_is_expected_and_what_was_found(annotation: Any, value: object, words: str) -> None:
    with pytest.raises(ValidationError) as error:
        TypeAdapter(annotation).validate_python(value)
    assert in_words(problems(error.value)[0]) == words


def test_no_kind_of_problem_is_reported_in_pydantics_words() -> None:
    context = dict.fromkeys(
        ("expected", "gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern", "actual_length"), "1"
    )
    for kind in get_args(ErrorType):
        expected = _expected(kind, context)
        assert not any(word in expected for word in PYDANTICS), expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"manifest": "abc"}, "inputs.table.manifest: expected a text that matches"),
        ({"a": {"manifest": "abc"}}, "inputs.table.a.manifest: expected a text that matches"),
        ({"manifest": "a" * 64, "outptu": "x"}, "unknown key 'outptu' at inputs.table.outptu (did you mean 'output'?)"),
        ({"model": "m", "optional": "maybe"}, "inputs.table.optional: expected true or false, found 'maybe'"),
        ([{"url": ""}], "inputs.table.0.url: expected a text of at least this many characters: 1, found ''"),
    ],
)
def test_an_input_that_does_not_fit_is_judged_as_what_it_is_meant_to_be(given: object, message: str) -> None:
    spec = {"function": "m:f", "team": "support", "store": {"url": "memory://x"}, "inputs": {"table": given}}
    with pytest.raises(SpecError) as error:
        StepSpec.read(spec)
    assert str(error.value).startswith(f"StepSpec: {message}")
    assert "also" not in str(error.value)


RULE = {"name": "r", "tag": "x", "any": ["x"]}


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda: RuleSet.read({"tags": ["!\ud83d"], "rules": [RULE]}, where="r.yaml"), "RuleSet: the tag '!?' begins with !"),
        (lambda: RuleSet.read({"tags": ["x"], "rules": [RULE | {"tag": "\ud83d"}]}), "RuleSet: rule 'r' has the unknown tag '?'"),
        (lambda: Resources.read({"memory": "\ud83d"}), "Resources: '?' is not a memory quantity"),
        (lambda: TableSchema.read({"columns": {"\ud83d": "x"}}), "TableSchema: column '?' has unknown type 'x'"),
    ],
)  # fmt: skip
def test_half_a_character_that_a_message_quotes_is_a_mistake_like_any(read: Callable[[], object], message: str) -> None:
    with pytest.raises(SpecError) as error:
        read()
    assert str(error.value).startswith(message)
    assert error.value.fix.startswith("give Unicode text")


def test_half_a_character_in_a_json_file_is_a_mistake_like_any(tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    path.write_text(json.dumps({"tags": ["!\ud83d"], "rules": [RULE]}))
    with pytest.raises(SpecError, match=r"the tag '!\?' begins with !") as error:
        RuleSet.from_yaml(path)
    assert error.value.where == str(path)

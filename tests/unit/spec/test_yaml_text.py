from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kommuna.errors import SpecError
from kommuna.spec.rules import RuleSet
from kommuna.spec.step import StepSpec
from kommuna.spec.yaml_text import load_yaml


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a: 1\nb: 0000-01-01\n", "'0000-01-01' is read as a value of type timestamp, but is not valid", 2),
        ("b: 2026-02-30\n", "'2026-02-30' is read as a value of type timestamp", 1),
        ("b: !!int x\n", "'x' is read as a value of type int", 1),
        ("b: " + "9" * 5000 + "\n", r"'9{60}…' is read as a value of type int", 1),
        ("a: 1\nb: 'x\u2028y'\n", r"holds the character U\+2028, which YAML reads as a line break", 2),
        ("a: 1\nb: x\x7fy\n", r"holds the character U\+007F, which YAML does not allow", 2),
        ('a: 1\nb: "x\\ud83d"\n', "holds half of a character", 2),
    ],
)
def test_what_yaml_cannot_make_of_a_scalar_is_named_with_its_line(text: str, message: str, line: int) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        load_yaml(text, Path("x.yaml"))
    assert caught.value.where == f"x.yaml:{line}"


def test_a_character_that_json_writes_as_two_escapes_is_one() -> None:
    assert load_yaml(json.dumps({"a": ["😀", "x😀"]}), Path("x.yaml")) == {"a": ["😀", "x😀"]}


@pytest.mark.parametrize(
    "value", ["a\u2028b", "a\x85b", "x\x7f", 1e-7, 1e22, "2026-02-30", "yes", "\ufffe", [1e-9, "😀"]]
)
def test_a_steps_parameters_reach_the_runtime_as_they_are(tmp_path: Path, value: Any) -> None:
    """The operator hands them over as JSON, which YAML reads otherwise."""
    store: dict[str, Any] = {"url": "file:///x"}
    spec = StepSpec.model_validate({"function": "m:f", "team": "support", "store": store, "params": {"a": value}})
    path = tmp_path / "spec.json"
    path.write_text(spec.model_dump_json(), encoding="utf-8")
    assert StepSpec.from_yaml(path).params == {"a": value}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"tags": NaN}', "is not valid JSON: it holds NaN"),
        ('{"tags": [1], "tags": [2]}', "is not valid JSON: duplicate key 'tags'"),
        ('{"tags": \n[', "is not valid JSON: Expecting value"),
        ("[" * 20_000, "is not valid JSON: it is nested too deeply"),
        ('{"tags": 1}', "RuleSet: tags: expected a list"),
    ],
)
def test_a_broken_json_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rules.json"
    path.write_text(text)
    with pytest.raises(SpecError, match=message):
        RuleSet.from_yaml(path)


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        RuleSet.from_yaml(tmp_path)

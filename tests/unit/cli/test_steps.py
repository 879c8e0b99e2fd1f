"""`kommuna steps` and the table in the docs list every operator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import kommuna.airflow
from kommuna.airflow import StepOperator
from kommuna.cli.main import app
from kommuna.cli.steps import shared_steps
from kommuna.errors import StepNotFound
from kommuna.spec.versions import VERSIONS


def test_every_operator_is_listed_with_its_inputs_and_outputs(root: Path) -> None:
    listed = {step.operator.__name__: step for step in shared_steps()}
    operators = {name for name in kommuna.airflow.__all__ if name.endswith("Operator")}
    assert set(listed) == operators - {"StepOperator", "ImageOperator", "RefusalOperator"}
    assert all(issubclass(step.operator, StepOperator) for step in listed.values())
    assert listed["RuleReportOperator"].inputs == ("votes", "rules", "labels?", "dev_votes?", "dev?", "questions?")
    assert listed["RuleReportOperator"].outputs == ("report", "table")
    docs = (root / "docs" / "steps.md").read_text(encoding="utf-8")
    for name, step in listed.items():
        outputs = ", ".join(f"`{output}`" for output in step.outputs)
        assert f"| {outputs} | {step.row[-1]} |" in docs.split(f"| `{name}` |")[1].splitlines()[0] + "\n"


def test_the_step_of_every_operator_has_a_version() -> None:
    assert {step.address for step in shared_steps()} <= set(VERSIONS)


def test_one_operator_shows_its_arguments() -> None:
    shown = CliRunner().invoke(app, ["steps", "AsofJoinOperator"]).stdout
    assert "`backward`, `forward` or `nearest`" in shown
    assert any(line.split() == ["strategy", "str", "'backward'"] for line in shown.splitlines())
    document = json.loads(CliRunner().invoke(app, ["steps", "AsofJoinOperator", "--json"]).stdout)
    assert document["step"] == "kommuna.steps:asof_join"
    with pytest.raises(StepNotFound, match="did you mean 'AsofJoinOperator'"):
        CliRunner().invoke(app, ["steps", "AsofJoin"], catch_exceptions=False)

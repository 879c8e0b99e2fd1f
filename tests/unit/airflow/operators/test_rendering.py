"""Templates: a DAG renders as in Airflow, and only a step's templates are cast to the types that the step declares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

Load = Callable[..., ModuleType]

STEP = """
import datetime
def f(*, text: str = "", number: float = 0, whole: int = 0, flag: bool = False, since: str | None = None,
      names: list[str] = [], day: str = "") -> dict[str, int]:
    return {}
"""
DAG = """
from airflow.providers.standard.operators.bash import BashOperator
from kommuna.airflow import StepOperator, TeamDag

with TeamDag("d", params={{"n": 0.5, "none": None, "names": ["0", "1,2"], "text": "42"}}, {options}) as dag:
    step = StepOperator(task_id="s", function="mine_rendered:f", parameters={parameters!r})
    bash = BashOperator(task_id="b", bash_command="true", env={{"D": "{{{{ ds_nodash }}}}", "T": "{{{{ params.text }}}}"}})
"""
CONTEXT = {"ds_nodash": "20260102", "params": {"n": 0.5, "none": None, "names": ["0", "1,2"], "text": "42"}}


def rendered(load: Load, platform: Path, parameters: dict[str, Any], options: str = "") -> dict[str, Any]:
    (platform / "dags/support/mine_rendered.py").write_text(STEP)
    dag = load(DAG.format(parameters=parameters, options=options)).dag
    task = dag.get_task("s")
    task.render_template_fields(dict(CONTEXT), dag.get_template_env())
    return dict(task.step_spec().params)


@pytest.mark.parametrize("options", ["", "render_template_as_native_obj=False", "render_template_as_native_obj=True"])
@pytest.mark.parametrize(
    ("name", "given", "found"),
    [
        ("text", "42", "42"),
        ("text", "True", "True"),
        ("text", "+4915", "+4915"),
        ("text", "1,2", "1,2"),
        ("text", "{{ ds_nodash }}", "20260102"),
        ("text", "{{ params.n }}", "0.5"),
        ("number", "{{ params.n }}", 0.5),
        ("whole", "{{ params.text }}", 42),
        ("flag", "{{ params.n > 0 }}", True),
        ("since", "{{ params.none }}", None),
        ("since", "{{ params.text }}", "42"),
        ("names", "{{ params.names }}", ["0", "1,2"]),
        ("names", ["{{ params.text }}", "0", "x{{ params.n }}"], ["42", "0", "x0.5"]),
        ("text", "{% if params.n %}yes{% endif %}", "yes"),
    ],
)
def test_a_parameter_is_what_was_written_or_what_the_step_declares(
    load: Load, platform: Path, name: str, given: Any, found: Any, options: str
) -> None:
    value = rendered(load, platform, {name: given}, options)[name]
    assert value == found
    assert type(value) is type(found)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{{ params.txet }}", r"a template names 'txet', which is not defined \(did you mean 'text'\?\)"),
        ("{{ ds }}", "a template names 'ds', and this run has no logical date\n.*--date"),
        ("x {{ ds }}", "a template names 'ds', and this run has no logical date\n.*--date"),
        ("{{ nope }}", "a template cannot be rendered: 'nope' is undefined"),
    ],
)
def test_an_undefined_value_is_named_and_fails_without_a_retry(
    load: Load, platform: Path, text: str, what: str
) -> None:
    with pytest.raises(AirflowFailException, match=what):
        rendered(load, platform, {"text": text})


def test_an_ordinary_operator_renders_texts_as_everywhere(load: Load, platform: Path) -> None:
    dag = load(DAG.format(parameters={}, options="")).dag
    bash = dag.get_task("b")
    bash.render_template_fields(dict(CONTEXT), dag.get_template_env())
    assert bash.env == {"D": "20260102", "T": "42"}

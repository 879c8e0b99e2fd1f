"""Mapped steps: their resources, and their results as inputs of other steps."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from airflow.serialization.serialized_objects import DagSerialization

from kommuna.errors import SpecError
from kommuna.spec.step import ArtifactInput, FileInput

Load = Callable[..., ModuleType]

HEAD = """
from airflow.sdk import task, task_group
from kommuna.airflow import *

@task
def names():
    return ["a.csv", "b.csv"]

@task
def least():
    return 2

with TeamDag("d", default_args={"retries": 2}) as dag:
    read = ReadTableOperator(task_id="read", source="store://inbox/m.csv", columns={"id": "String"})
"""
MADE = """
    made = StepOperator.partial(task_id="made", function="mine:f", inputs={"table": read["table"]},
                                step_resources={"memory": "2Gi", "cpu": "2"}).expand(parameters=[{"n": 1}, {"n": 2}])
"""


def digest(name: str) -> str:
    """What stands for the content of an output of this name."""
    return hashlib.sha256(name.encode()).hexdigest()


def table_of(letter: str) -> ArtifactInput:
    """The reference to the output `table` of `result(letter, "table")`."""
    return ArtifactInput(manifest=letter * 64, output="table", digest=digest("table"))


def result(letter: str, *outputs: str) -> dict[str, Any]:
    return {"key": letter * 64, "outputs": {name: f"{digest(name)}.parquet" for name in outputs}, "metrics": {}}


class Instance:
    """What Airflow's XComs are pulled from in a task: a list for a mapped task, else one value."""

    map_index = -1
    _upstream_map_indexes: dict[str, int] = {}  # noqa: RUF012

    def __init__(self, left: dict[str, Any]) -> None:
        self.left = left

    def xcom_pull(self, task_ids: str, **_: Any) -> Any:
        return self.left[task_ids]


def spec_of(dag: Any, task_id: str, left: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The step as the runtime would get it, after Airflow's own rendering of the upstream tasks' results."""
    from airflow.sdk.definitions.xcom_arg import PlainXComArg

    real = PlainXComArg.resolve
    monkeypatch.setattr(
        PlainXComArg,
        "resolve",
        lambda self, context: left[self.operator.task_id] if self.operator.is_mapped else real(self, context),
    )
    task = dag.get_task(task_id)
    task.render_template_fields({"ti": Instance(left), "params": {}}, dag.get_template_env())
    return task.step_spec()


def test_a_mapped_step_has_the_pods_resources_and_the_teams_pool(load: Load) -> None:
    dag = load(HEAD + MADE).dag
    again = DagSerialization.from_dict(DagSerialization.to_dict(dag)).get_task("made")
    for task in (dag.get_task("made"), again):
        assert task.executor_config == {"resources": {"cpu": "2", "memory": "2Gi"}}
        assert (task.pool, task.retries, task.upstream_task_ids) == ("support__default", 2, {"read"})


@pytest.mark.parametrize(
    "partial",
    [
        "StepOperator.partial(task_id='m', function='mine:f')",
        "QueryOperator.partial(task_id='m', sql='SELECT 1')",
        "ApplyRulesOperator.partial(task_id='m', rules='rules.yaml')",
    ],
)
def test_every_steps_partial_has_resources(load: Load, partial: str) -> None:
    name = "inputs" if "Step" in partial else "tables" if "Query" in partial else "messages"
    dag = load(HEAD + f"    made = {partial}.expand({name}=names())\n").dag
    assert dag.get_task("m").executor_config == {"resources": {"cpu": "1", "memory": "4Gi"}}


def test_resources_in_default_args_reach_a_mapped_step(load: Load) -> None:
    source = (
        (HEAD + MADE)
        .replace('"retries": 2', '"step_resources": {"memory": "8Gi"}')
        .replace(',\n                                step_resources={"memory": "2Gi", "cpu": "2"}', "")
    )
    assert load(source).dag.get_task("made").executor_config == {"resources": {"cpu": "1", "memory": "8Gi"}}


def test_a_mapped_image_step_requests_only_the_resources_for_waiting(load: Load) -> None:
    source = HEAD + (
        "    ImageOperator.partial(task_id='m', function='mine:f', image='x', step_resources={'memory': '64Gi'})"
        ".expand(parameters=[{'n': 1}])\n"
    )
    assert load(source).dag.get_task("m").executor_config == {"resources": {"cpu": "500m", "memory": "768Mi"}}


def test_resources_cannot_differ_among_a_mapped_steps_tasks(load: Load) -> None:
    with pytest.raises(SpecError, match="task 'm' is mapped over `step_resources`"):
        load(HEAD + "    StepOperator.partial(task_id='m', function='mine:f').expand(step_resources=[{}])\n")


TWO = [result("a", "table"), result("b", "table")]
BOTH = [table_of("a"), table_of("b")]


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("made", BOTH),
        ("made.output", BOTH),
        ("[made.output]", BOTH),
        ("[made]", BOTH),
        ("[made['table']]", BOTH),
        ("made['table']", BOTH),
        ("made.output['table']", BOTH),
        ("[made.output, read['table']]", [*BOTH, table_of("c")]),
        ("read.output", table_of("c")),
        ("read.output['table']", table_of("c")),
        ("{'a': read.output}", {"a": table_of("c")}),
        ("names()", [FileInput(url="a.csv"), FileInput(url="b.csv")]),
    ],
)
def test_results_of_mapped_tasks_are_a_list_input(
    load: Load, monkeypatch: pytest.MonkeyPatch, written: str, found: object
) -> None:
    source = f"    StepOperator(task_id='all', function='mine:g', inputs={{'tables': {written}}})\n"
    dag = load(HEAD + MADE + source).dag
    DagSerialization.from_dict(DagSerialization.to_dict(dag))
    left = {"made": TWO, "read": result("c", "table"), "names": ["a.csv", "b.csv"]}
    assert spec_of(dag, "all", left, monkeypatch).inputs == {"tables": found}
    assert dag.get_task("all").upstream_task_ids & {"made", "read", "names"}


def test_a_step_may_be_mapped_over_a_mapped_steps_output(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    dag = load(HEAD + MADE + "    CleanOperator.partial(task_id='c').expand(table=made['table'])\n").dag
    DagSerialization.from_dict(DagSerialization.to_dict(dag))
    mapped = dag.get_task("c")
    assert mapped.upstream_task_ids == {"made"}
    value = mapped.expand_input.value["table"]
    monkeypatch.setattr(type(value.arg), "resolve", lambda self, context: TWO)
    task = mapped.unmap({"table": value.resolve({})[1]})
    assert task.step_spec().inputs == {"table": BOTH[1]}


def test_one_result_is_not_a_list_to_map_over(load: Load) -> None:
    for written in ("read", "read.output", "read['table']"):
        with pytest.raises(SpecError, match="cannot map over step 'read': it returns one result, not a list"):
            load(HEAD + f"    CleanOperator.partial(task_id='c').expand(table={written})\n")


def test_mapped_outputs_where_one_is_expected_are_refused(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    dag = load(HEAD + MADE + "    QueryOperator(task_id='q', tables={'t': made['table']}, sql='SELECT 1')\n").dag
    with pytest.raises(AirflowFailException, match=r"input 'tables\.t': 2 artifacts where one is expected"):
        spec_of(dag, "q", {"made": TWO}, monkeypatch)


@pytest.mark.parametrize(
    ("source", "name", "value"),
    [
        ("StepOperator(task_id='s', function='mine:f', parameters={'n': least()})", "n", 2),
        ("MaskPiiOperator(task_id='s', table='t.csv', names=names())", "names", ["a.csv", "b.csv"]),
        ("AsofJoinOperator(task_id='s', left='a.csv', right='b.csv', on='t', by=names())", "by", ["a.csv", "b.csv"]),
        ("PromoteOperator(task_id='s', version='v', scores='s', gate=least())", "gate", "2"),
        ("RefineRulesOperator(task_id='s', messages='m', dev='d', rounds=least())", "rounds", 2),
    ],
)
def test_another_tasks_value_is_a_parameter(
    load: Load, monkeypatch: pytest.MonkeyPatch, source: str, name: str, value: object
) -> None:
    dag = load(HEAD + f"    {source}\n").dag
    DagSerialization.from_dict(DagSerialization.to_dict(dag))
    spec = spec_of(dag, "s", {"least": 2, "names": ["a.csv", "b.csv"]}, monkeypatch)
    assert spec.params[name] == value

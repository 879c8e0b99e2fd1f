"""`TeamDag`, operators and the template: what a team's DAG file becomes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest
from airflow.sdk.exceptions import AirflowFailException
from airflow.serialization.serialized_objects import DagSerialization

from kommuna.errors import GateError, SpecError
from kommuna.spec.step import ArtifactInput, FileInput, ModelInput

Load = Callable[..., ModuleType]

CHAIN = """
from kommuna.airflow import Model, ApplyRulesOperator, PredictOperator, ReadTableOperator, StepOperator, TeamDag

with TeamDag("topics", tags=["x"]) as dag:
    read = ReadTableOperator(task_id="read", source="store://inbox/m.csv", columns={"id": "String", "text": "String"})
    vote = ApplyRulesOperator(task_id="vote", messages=read["table"], rules="rules.yaml")
    own = StepOperator(task_id="own", function="mine:f", inputs={"tables": {"a": read["table"], "b": vote}})
    predict = PredictOperator(task_id="predict", messages=read["table"], model=Model("topics"))
"""


def test_id_pool_owner_tags_and_retries_come_from_the_team(load: Load) -> None:
    dag = load(CHAIN).dag
    task = dag.get_task("read")
    assert dag.dag_id == "support__topics"
    assert sorted(dag.tags) == ["messages", "support", "x"]
    assert (task.pool, task.owner, task.retries) == ("support__default", "Client support", 3)
    assert task.retry_delay == timedelta(seconds=5)
    assert task.executor is None


def test_outputs_of_upstream_tasks_create_dependencies(load: Load) -> None:
    dag = load(CHAIN).dag
    assert dag.get_task("vote").upstream_task_ids == {"read"}
    assert dag.get_task("own").upstream_task_ids == {"read", "vote"}


def test_the_dag_survives_airflows_serialization(load: Load) -> None:
    dag = load(CHAIN).dag
    again = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    assert again.dag_id == "support__topics"
    assert sorted(task.task_id for task in again.tasks) == ["own", "predict", "read", "vote"]
    assert again.get_task("vote").pool == "support__default"


def test_rendered_inputs_become_the_runtimes_references(load: Load, platform: Path) -> None:
    dag = load(CHAIN).dag
    xcom = {"key": "a" * 64, "outputs": {"table": f"{'d' * 64}.parquet"}}
    own = dag.get_task("own")
    own.inputs = {
        "tables": {
            "a": {"kommuna_step": xcom, "kommuna_output": "table"},
            "b": {"kommuna_step": xcom, "kommuna_output": None},
        }
    }
    spec = own.step_spec(run_id="r1")
    table = ArtifactInput(manifest="a" * 64, output="table", digest="d" * 64)
    assert spec.inputs["tables"] == {"a": table, "b": table}
    assert (spec.team, spec.run_id, spec.task_id) == ("support", "r1", "own")
    assert spec.bundle == str(platform / "dags/support")
    assert spec.store.url == (platform / ".kommuna/store").as_uri()
    predict = dag.get_task("predict")
    predict.inputs = {"messages": "x.parquet", "model": predict.inputs["model"]}
    assert predict.step_spec().inputs == {
        "messages": FileInput(url="x.parquet"),
        "model": ModelInput(model="support__topics"),
    }


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"kommuna_step": {"key": "a" * 64, "outputs": {"votes": "x"}}, "kommuna_output": "vote"}, "left no 'vote' (did you mean 'votes'?)"),
        ({"kommuna_step": {"key": "a" * 64, "outputs": {"a": "x", "b": "y"}}, "kommuna_output": None}, "has the outputs a, b"),
        ({"kommuna_step": None, "kommuna_output": None}, "the upstream task left nothing"),
    ],
)  # fmt: skip
def test_a_missing_input_is_named(load: Load, value: object, message: str) -> None:
    vote = load(CHAIN).dag.get_task("vote")
    vote.inputs = {"messages": value}
    with pytest.raises(AirflowFailException) as error:
        vote.step_spec()
    assert message in str(error.value)


def test_a_models_name_gets_the_teams_prefix_and_another_teams_is_refused(load: Load) -> None:
    source = 'from kommuna.airflow import *\nwith TeamDag("d") as dag:\n    r = RegisterOperator(task_id="r", model="m", scores="s", sample="t", name="{name}")\n'
    register = load(source.format(name="topics"), name="a.py").dag.get_task("r")
    assert register.step_spec().params["name"] == "support__topics"
    assert not register.step_spec().cache


def test_another_teams_prefix_is_refused_at_parse_time(load: Load) -> None:
    with pytest.raises(SpecError, match="'fraud__x' has the prefix of team 'fraud', but belongs to team 'support'"):
        load('from kommuna.airflow import TeamDag\nTeamDag("fraud__x")\n')


def test_an_invalid_gate_is_refused_at_parse_time(load: Load) -> None:
    source = 'from kommuna.airflow import *\nwith TeamDag("d"):\n    PromoteOperator(task_id="p", version="v", scores="s", gate="f1_macro >> 0.7")\n'
    with pytest.raises(GateError):
        load(source)


def test_resources_are_checked_at_parse_time(load: Load) -> None:
    source = 'from kommuna.airflow import *\nwith TeamDag("d"):\n    StepOperator(task_id="p", function="m:f", step_resources={"memori": "1Gi"})\n'
    with pytest.raises(SpecError, match=r"unknown key 'memori'.*did you mean 'memory'"):
        load(source)


def test_the_form_offers_dates_numbers_and_choices(load: Load) -> None:
    source = (
        "from kommuna.airflow import weak_supervision_dag\n"
        'dag = weak_supervision_dag("topics", model="topics", columns={"id": "String", "text": "String"})\n'
    )
    dag = load(source).dag
    schemas = {name: dag.params.get_param(name).schema for name in dag.params}
    assert schemas["since"]["format"] == "date"
    assert (schemas["min_confidence"]["minimum"], schemas["min_confidence"]["maximum"]) == (0, 1)
    assert schemas["encoder"]["enum"] == ["auto", "minilm", "multilingual_e5"]
    assert "dawid_skene" in schemas["label_model"]["enum"]
    assert all(dag.params.get_param(name).description for name in dag.params)
    assert all(task.pool == "support__default" for task in dag.tasks)


def test_every_example_dag_parses_without_any_ml_library(root: Path) -> None:
    code = f"""
import os, runpy, sys
os.environ["KOMMUNA_PLATFORM"] = {str(root / "kommuna.yaml")!r}
import kommuna.airflow
for name in kommuna.airflow.__all__:
    if name != 'ImageOperator':  # is Airflow's pod operator, which loads kubernetes: only files that use it do
        getattr(kommuna.airflow, name)
from airflow.sdk.definitions._internal.contextmanager import DagContext
found = []
for path in {sorted(str(p) for p in (root / "dags").rglob("*.py") if "weak_supervision_dag(" in p.read_text() or "TeamDag(" in p.read_text())!r}:
    runpy.run_path(path)
    found.append(path.rsplit("/", 1)[1])
heavy = ("polars", "sklearn", "torch", "mlflow", "snorkel", "kubernetes", "pandas")
print(len(found), [name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "3 []"


LISTS = {
    "names": 'MaskPiiOperator(task_id="t", table="x.parquet", names={})',
    "by": 'AsofJoinOperator(task_id="t", left="l.parquet", right="r.parquet", on="at", by={})',
    "features": 'TrainClassifierOperator(task_id="t", messages="m", labels="l", dev="d", features={})',
    "proposers": 'RefineRulesOperator(task_id="t", messages="m", dev="d", proposers={})',
}


@pytest.mark.parametrize("name", LISTS)
def test_a_text_instead_of_a_list_is_refused_at_parse_time(load: Load, name: str) -> None:
    source = 'from kommuna.airflow import *\nwith TeamDag("d") as dag:\n    {}\n'
    with pytest.raises(SpecError, match=f"`{name}` is a list of texts; got the text 'llm'"):
        load(source.format(LISTS[name].format("'llm'")))
    template = load(source.format(LISTS[name].format("'{{ params.given }}'"))).dag.get_task("t")
    assert template.parameters[name] == "{{ params.given }}"
    assert load(source.format(LISTS[name].format("('llm',)"))).dag.get_task("t").parameters[name] == ["llm"]


def test_a_dags_tags_and_the_templates_names_are_lists_too(load: Load) -> None:
    with pytest.raises(SpecError, match="`tags` is a list of texts; got the text 'fast'"):
        load('from kommuna.airflow import *\nTeamDag("d", tags="fast")\n', name="a.py")
    with pytest.raises(SpecError, match="`names` is a list of texts; got the text 'Иван'"):
        load(
            "from kommuna.airflow import *\n"
            'weak_supervision_dag("d", model="m", columns={"id": "String", "text": "String"}, names="Иван")\n',
            name="b.py",
        )


GATED = """from kommuna.airflow import *
with TeamDag("d"):
    scores = EvaluateOperator(task_id="e", model="m", gold="g", dev="d", messages="x")
    PromoteOperator(task_id="p", version="v", scores=scores["scores"], gate="{}")
"""


@pytest.mark.parametrize("name", ["f1_macr", "champion.ece"])
def test_a_gate_may_only_name_metrics_of_the_evaluation(load: Load, name: str) -> None:
    load(GATED.format("f1_macro >= champion.f1_macro"), name="a.py")
    with pytest.raises(GateError, match=f"the gate names an unknown metric '{name}'"):
        load(GATED.format(f"{name} >= 0.7"), name="b.py")

"""`RefineRulesOperator`: its key depends on the heavy LLM, and other steps take its rules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from kommuna.errors import SpecError
from kommuna.runtime.binding import find_step
from kommuna.steps.labeling.refine.step import Refined

Load = Callable[..., ModuleType]

DAG = """
from kommuna.airflow import ApplyRulesOperator, LabelOperator, RefineRulesOperator, TeamDag

with TeamDag("refined") as dag:
    refine = RefineRulesOperator(task_id="refine", messages="m.parquet", dev="d.parquet", {options})
    vote = ApplyRulesOperator(task_id="vote", messages="m.parquet", rules=refine["rules"])
    LabelOperator(
        task_id="label", votes=vote["votes"], rules=refine["rules"], dev_votes=refine["dev_votes"], dev="d.parquet"
    )
"""
LLM = '\nllm:\n  heavy: {url: "http://127.0.0.1:9/v1", model: giant}\n'


def test_the_operators_names_are_those_of_the_step(load: Load) -> None:
    dag = load(DAG.format(options='rules="rules.yaml", gold="g.parquet", budget={"money": 2}')).dag
    spec = dag.get_task("refine").step_spec()
    find_step(spec.function).check_names(spec.inputs, spec.params)
    checked = find_step(spec.function).check_params(spec.params)
    assert checked["budget"].money == 2
    assert checked["proposers"] == ("miner",) or list(checked["proposers"]) == ["miner"]
    assert dag.get_task("vote").upstream_task_ids == {"refine"}
    assert dag.get_task("label").upstream_task_ids == {"refine", "vote"}
    assert {"rules", "dev_votes"} <= set(Refined._fields)


def test_a_parameters_former_name_is_still_read(load: Load) -> None:
    dag = load(DAG.format(options="several_tags=True")).dag
    assert dag.get_task("refine").step_spec().params["multi_label"] is True


def test_the_heavy_model_is_part_of_the_step_where_it_is_used(load: Load, platform: Path) -> None:
    description = platform / "kommuna.yaml"
    description.write_text(description.read_text() + LLM)
    asked = load(DAG.format(options='proposers=["miner", "llm"]')).dag.get_task("refine").step_spec()
    assert asked.params["model"] == "giant"
    assert asked.services.llm.heavy is not None
    alone = load(DAG.format(options="rounds=3")).dag.get_task("refine").step_spec()
    assert "model" not in alone.params


def test_a_misspelt_budget_is_refused_at_parse_time(load: Load) -> None:
    with pytest.raises(SpecError, match=r"did you mean 'money'\?"):
        load(DAG.format(options='budget={"mony": 2}'))

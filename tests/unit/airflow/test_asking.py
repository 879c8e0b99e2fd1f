"""`ask` rules from a DAG file: the platform's light model, the budget, and no key anywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from kommuna.errors import SpecError

Load = Callable[..., ModuleType]

DAG = """
from kommuna.airflow import ApplyRulesOperator, TeamDag

with TeamDag("asked") as dag:
    vote = ApplyRulesOperator(task_id="vote", messages="m.parquet", rules="rules.yaml", asking={asking})
"""

LLM = """
llm:
  light: {url: "http://127.0.0.1:9/v1", model: tiny, key_variable: BANK_LLM_KEY, input_price: 0.2, output_price: 0.8}
"""


def test_the_platforms_light_model_is_part_of_the_step_and_its_key_is_not(
    load: Load, platform: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BANK_LLM_KEY", "sk-very-secret")
    description = platform / "kommuna.yaml"
    description.write_text(description.read_text() + LLM)
    dag = load(DAG.format(asking={"budget": {"money": 5}, "max_failed": 0.1})).dag
    spec = dag.get_task("vote").step_spec()
    assert spec.params["asking"] == {"model": "tiny", "budget": {"money": 5}, "max_failed": 0.1}
    assert spec.services.llm.light is not None
    assert spec.services.llm.light.key_variable == "BANK_LLM_KEY"
    assert "sk-very-secret" not in spec.model_dump_json()


def test_without_an_llm_the_step_is_unchanged(load: Load) -> None:
    spec = load(DAG.format(asking=None)).dag.get_task("vote").step_spec()
    assert spec.params == {"key": "id", "text": "text"}


def test_a_misspelt_budget_is_refused_at_parse_time(load: Load) -> None:
    with pytest.raises(SpecError, match=r"unknown key 'mony' at budget\.mony \(did you mean 'money'\?\)"):
        load(DAG.format(asking={"budget": {"mony": 5}}))


def test_a_template_in_the_budget_is_left_to_the_run(load: Load) -> None:
    dag = load(DAG.format(asking={"budget": {"money": "{{ params.money }}"}})).dag
    assert dag.get_task("vote").parameters["asking"]["budget"]["money"] == "{{ params.money }}"

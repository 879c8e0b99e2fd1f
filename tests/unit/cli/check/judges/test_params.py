"""Params, gates and templates: mistakes that would fail a late task are found before a run."""

from __future__ import annotations

import pytest
from tests.rigs.check import dag, findings_of

CHAIN = "from airflow.sdk import DAG\nfrom kommuna.airflow import weak_supervision_dag\n"
COLUMNS = "columns={'id': 'String', 'text': 'String'}"
BASH = "from airflow.providers.standard.operators.bash import BashOperator\n"
ASSET = "from airflow.sdk import Asset\n"


def chain(name: str, **options: str) -> str:
    arguments = "".join(f", {key}={value}" for key, value in options.items())
    return f"{CHAIN}weak_supervision_dag('{name}', model='m', {COLUMNS}{arguments})\n"


def bash(name: str, command: str, **options: str) -> str:
    return BASH + ASSET + dag(name, f"BashOperator(task_id='t', bash_command={command!r})", **options)


GATE = "f1_macro >= 0.7 and"
CASES = {
    "gate.py": (chain("gate", gate=f"'{GATE}'"), 3, "DAG 'support__gate': params.gate = 'f1_macro >= 0.7 and': the gate cannot be read at character"),
    "metric.py": (chain("metric", gate="'f1_macr >= 0.7'"), 3, "DAG 'support__metric': params.gate = 'f1_macr >= 0.7': the gate names an unknown metric 'f1_macr' (did you mean 'f1_macro'?)"),
    "model.py": (chain("model", label_model="'komuna'"), 3, "DAG 'support__model': params.label_model: the default does not fit its schema: 'komuna' is not one of"),
    "confidence.py": (chain("confidence", min_confidence="7"), 3, "DAG 'support__confidence': params.min_confidence: the default does not fit its schema: 7 is greater than the maximum"),
    "region.py": (chain("region", region="'XX'"), 3, "task 'read_messages': parameter 'region' of step kommuna.steps:prepare_messages: no region 'XX'"),
    "plain.py": (dag("plain", "StepOperator(task_id='s', function='own:made', parameters={'n': '{{ params.n }}'})", params="{'n': 'two'}"), 3,
                 "DAG 'support__plain': params.n = 'two': expected a whole number, found 'two' (for 'n' of task 's')"),
    "typo.py": (bash("typo", "echo {{ params.dya }}", params="{'day': 1}"), 6, "task 't': '{{ params.dya }}' in 'bash_command': the DAG has no param 'dya' (did you mean 'day'?)"),
    "item.py": (bash("item", "echo {{ params['x'] }}"), 6, "task 't': '{{ params.x }}' in 'bash_command': the DAG has no param 'x'"),
    "name.py": (bash("name", "echo {{ dss }}"), 6, "task 't': '{{ dss }}' in 'bash_command' is not known to a run (did you mean 'ds'?)"),
    "syntax.py": (bash("syntax", "echo {{ ds"), 6, "task 't': the template in 'bash_command' cannot be parsed: "),
    "asset.py": (bash("asset", "echo {{ ds }}", schedule="Asset('support__a')"), 6, "task 't': '{{ ds }}' in 'bash_command': a run that an asset starts has no logical date"),
    "step.py": (dag("step", "StepOperator(task_id='s', function='own:made', parameters={'n': '{{ params.m }}'})", params="{'n': 2}"), 4,
                "task 's': '{{ params.m }}' in 'parameters': the DAG has no param 'm'"),
}  # fmt: skip
GOOD = {
    "fine.py": bash(
        "fine",
        "{% for i in range(3) %}{{ i }} {{ ds }} {{ ti.task_id }} {{ var.value.get('a') }} {{ macros.ds_add(ds, 1) }}"
        " {{ params.n }} {{ params.get('m') }} {{ params.z | default(1) }} {{ own(1) }} {{ conn.x.host }}"
        " {{ data_interval_start }} {{ prev_start_date_success }} {{ dag_run.conf }} {{ run_id }}{% endfor %}",
        params="{'n': 1}",
        user_defined_macros="{'own': str}",
    ),
    "chain.py": chain("chain"),
    "empty.py": dag("empty", params="{'n': None}"),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[int, str, str]]]:
    own = {"own.py": "import polars as pl\ndef made(*, n: int = 1) -> pl.LazyFrame: ...\n"}
    rules = {"rules.yaml": "tags: [a]\nrules:\n- {name: r, tag: a, any: [x]}\n"}
    files = {name: case[0] for name, case in CASES.items()}
    return findings_of(tmp_path_factory.mktemp("params"), own | rules | files | GOOD)


@pytest.mark.parametrize("name", CASES)
def test_a_value_that_would_fail_a_run_is_found(name: str, said: dict[str, list[tuple[int, str, str]]]) -> None:
    _, line, what = CASES[name]
    ((at, found, _),) = said[name]
    assert at == line
    assert found.startswith(what)


def test_values_that_a_run_accepts_have_no_findings(said: dict[str, list[tuple[int, str, str]]]) -> None:
    assert {name: said.get(name) for name in GOOD} == dict.fromkeys(GOOD)

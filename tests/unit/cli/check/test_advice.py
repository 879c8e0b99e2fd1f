"""The fix of a finding helps."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.rigs.check import dag, findings_of

CASES = {
    "library.py": ("# airflow dag\nimport catboost_zz\n", 2, "ModuleNotFoundError: No module named 'catboost_zz'",
                   "for a library ask MLOps to add it to the image, or run the step in your own image"),
    "bash.py": ("# dag\nfrom airflow.operators.bash_operator import BashOperator\n", 2, "ModuleNotFoundError: ",
                "Airflow 3 has it in airflow.providers.standard.operators.bash"),
    "dataset.py": ("# dag\nfrom airflow.datasets import Dataset\n", 2, "ModuleNotFoundError: ",
                   "Airflow 3 has it in airflow.sdk (Asset)"),
    "contrib.py": ("# dag\nfrom airflow.contrib.hooks.x import Y\n", 2, "ModuleNotFoundError: ", "provider packages"),
    "provider.py": ("# dag\nfrom airflow.providers.snowflake_zz.hooks.s import S\n", 2, "ModuleNotFoundError: ",
                    "ask MLOps to add apache-airflow-providers-snowflake_zz to the image"),
    "days_ago.py": ("# dag\nfrom airflow.utils.dates import days_ago\n", 2, "ImportError: ", "write a fixed start_date"),
    "schedule_interval.py": (dag("interval", schedule_interval="'@daily'"), 3, "TypeError: ", "write schedule=…"),
    "provide_context.py": (
        "from airflow.providers.standard.operators.python import PythonOperator\n"
        + dag("context", "PythonOperator(task_id='t', python_callable=print, provide_context=True)"),
        5, "TypeError: Invalid arguments were passed to PythonOperator", "leave it out: Airflow 3 passes the context"),
    "variable.py": ("from airflow.sdk import Variable  # dag\nVariable.get('support__limit')\n",
                    2, "the variable 'support__limit' does not exist", "give `Variable.get` a default"),
    "connection.py": ("from airflow.sdk import BaseHook  # dag\nBaseHook.get_connection('support__bank')\n",
                      2, "the connection 'support__bank' does not exist", "read it in a task"),
    "typo.py": (dag("typo", "PrepareMessagesOperator(task_id='t', sorce='store://x', columns={'id': 'String'})"),
                4, "PrepareMessagesOperator has no argument 'sorce' (did you mean 'source'?)", "fix the name"),
    "modl.py": (dag("modl", "LabelOperator(\n    task_id='t', votes='store://v', rules='r.yaml', modl='kommuna')"),
                4, "LabelOperator has no argument 'modl' (did you mean 'model'?)", "fix the name"),
    "chain.py": ("import kommuna.airflow as k\nk.weak_supervision_dag('c', modle='c', columns={'id': 'String'})\n",
                 2, "k.weak_supervision_dag has no argument 'modle' (did you mean 'model'?)", "fix the name"),
    "tag.py": (dag("tag", tagz="['a']"), 3, "TeamDag has no argument 'tagz' (did you mean 'tags'?)", "fix the name"),
    "leaves.py": ("# airflow dag\nimport os\n\nos._exit(0)\n", 4,
                  "os._exit ends the process that reads the file (exit code 0)", "remove it"),
    "crashes.py": ("# airflow dag\nimport os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", 1,
                   "the file ends the process that reads it (signal 11)", "run the file with python"),
    "config.py": (dag("config", "EmptyOperator(\n    task_id='t',\n    executor_config={'pod_override': {}},\n)"), 4,
                  "task 't' sets executor_config (pod_override)", "an ordinary task may set"),
    "lines.py": (dag("lines", "@task\ndef a():\n    pass\n\nb = EmptyOperator(task_id='b')\na.override(pool='nope')() >> b")
                 .replace("from kommuna", "from airflow.sdk import task\nfrom kommuna"), 10,
                 "task 'a' uses the pool 'nope'", "the team's pools are"),
}  # fmt: skip


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[int, str, str]]]:
    return findings_of(tmp_path_factory.mktemp("advice"), {name: case[0] for name, case in CASES.items()})


@pytest.mark.parametrize("name", CASES)
def test_a_finding_has_a_fix_that_helps(name: str, said: dict[str, list[tuple[int, str, str]]]) -> None:
    _, line, what, fix = CASES[name]
    ((at, found, advice),) = said[name]
    assert at == line
    assert found.startswith(what)
    assert fix in advice


@pytest.mark.slow
def test_one_cause_is_one_finding(tmp_path: Path) -> None:
    body = "for i in range(5):\n    EmptyOperator(task_id=f't{i}')\nEmptyOperator(task_id='last', pool='nope')"
    found = findings_of(tmp_path, {"many.py": dag("many", body, default_args="{'pool': 'nope'}")})
    ((line, what, _),) = found["many.py"]
    assert line == 5
    assert what.startswith("task 't0' uses the pool 'nope', which does not belong to team 'support'")
    assert what.endswith("; the same for 't1', 't2', 't3', 't4', 'last' (line 6)")

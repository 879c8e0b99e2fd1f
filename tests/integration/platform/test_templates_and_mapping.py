"""Templates and mapped steps of a team's DAG, run by Airflow itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from tests.rigs.dag_runs import DagRuns

from kommuna.spec.step import StoreAddress
from kommuna.store import Store

if TYPE_CHECKING:
    from tests.integration.platform.conftest import Site

STEPS = """
import polars as pl
def one(*, n: int = 0, text: str = "", share: float = 0.0, names: list[str] = [], since: str | None = "x") -> pl.LazyFrame:
    return pl.LazyFrame({"n": [n], "text": [text], "share": [share], "names": [",".join(names)], "since": [since]})
def join(tables: list[pl.LazyFrame], *, least: int = 0) -> pl.LazyFrame:
    return pl.concat(tables).filter(pl.col("n") >= least).sort("n")
"""
DAG = """
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import task, task_group
from kommuna.airflow import QueryOperator, StepOperator, TeamDag

@task
def least():
    return 2

@task
def numbers():
    return [{"n": 1}, {"n": 2}, {"n": 3}]

@task
def last(results):
    return list(results)[-1]

with TeamDag("mapping", params={"share": 0.0, "text": "42", "names": ["0", "1,2"], "none": None}):
    rendered = StepOperator(
        task_id="rendered",
        function="mapping_steps:one",
        parameters={"text": "{{ params.text }}", "share": "{{ params.share }}", "names": "{{ params.names }}", "since": "{{ params.none }}", "n": "7"},
    )
    BashOperator(task_id="bash", bash_command='test "$T" = 42', env={"T": "{{ params.text }}"}, append_env=True)
    made = StepOperator.partial(task_id="made", function="mapping_steps:one").expand(parameters=numbers())
    for name, tables in {"output": made.output, "listed": [made.output], "named": made["result"], "keyed": made.output["result"],
                         "with_another": [made, rendered["result"]]}.items():
        StepOperator(task_id=name, function="mapping_steps:join", inputs={"tables": tables}, parameters={"least": least()})
    StepOperator(task_id="picked", function="mapping_steps:join", inputs={"tables": [last(made.output)]})
    again = QueryOperator.partial(task_id="again", sql="SELECT n * 10 AS n, text, share, names, since FROM t").expand(
        tables=made["result"].operator.output.map(lambda result: {"t": result})
    )
    StepOperator(task_id="all_again", function="mapping_steps:join", inputs={"tables": again["table"]})

    @task_group
    def group(n):
        return StepOperator(task_id="grouped", function="mapping_steps:one", parameters={"n": n})["result"]

    StepOperator(task_id="of_group", function="mapping_steps:join", inputs={"tables": group.expand(n=[5, 6]) and dag_task("group.grouped")})
"""


@pytest.fixture(scope="module")
def runs(site: Site) -> DagRuns:
    made = DagRuns(site)
    made.write("mapping_steps.py", STEPS)
    made.write(
        "mapping.py",
        DAG.replace("group.expand(n=[5, 6]) and dag_task", "(group.expand(n=[5, 6]), dag_task)[1]").replace(
            "with TeamDag(",
            "def dag_task(name):\n    from airflow.sdk.definitions._internal.contextmanager import DagContext\n"
            "    return DagContext.get_current().get_task(name)['result']\n\nwith TeamDag(",
            1,
        ),
    )
    assert made.await_dags({"support__mapping"}), made.import_errors()
    return made


@pytest.fixture(scope="module")
def run_id(runs: DagRuns) -> str:
    run_id = runs.trigger("support__mapping")
    states = runs.wait("support__mapping", run_id)
    assert states[""] == "success", {
        name: runs.log("support__mapping", run_id, name)[-3000:]
        for name, state in states.items()
        if state == "failed" and name
    }
    return run_id


def table(site: Site, runs: DagRuns, run_id: str, task_id: str) -> list[dict[str, Any]]:
    result = runs.xcom("support__mapping", run_id, task_id)
    store = Store(StoreAddress(url=site.embedded.installation.store().url), "support")
    manifest = store.manifest(result["key"])
    assert manifest is not None
    (artifact,) = manifest.outputs.values()
    return pl.read_parquet(store.read(artifact)).to_dicts()


def test_templates_reach_a_step_as_the_declared_types(site: Site, runs: DagRuns, run_id: str) -> None:
    (row,) = table(site, runs, run_id, "rendered")
    assert row == {"n": 7, "text": "42", "share": 0.0, "names": "0,1,2", "since": None}


@pytest.mark.parametrize(
    ("task_id", "numbers"),
    [
        ("output", [2, 3]),
        ("listed", [2, 3]),
        ("named", [2, 3]),
        ("keyed", [2, 3]),
        ("with_another", [2, 3, 7]),
        ("picked", [3]),
        ("all_again", [10, 20, 30]),
        ("of_group", [5, 6]),
    ],
)
def test_a_step_reads_the_outputs_of_mapped_tasks(
    site: Site, runs: DagRuns, run_id: str, task_id: str, numbers: list[int]
) -> None:
    assert [row["n"] for row in table(site, runs, run_id, task_id)] == numbers


def test_another_spelling_of_a_number_in_the_form_is_a_hit(runs: DagRuns, run_id: str) -> None:
    again = runs.trigger("support__mapping", {"share": 0})
    assert runs.wait("support__mapping", again)[""] == "success"
    assert runs.xcom("support__mapping", again, "rendered")["cached"]


def test_check_finds_nothing_in_it(site: Site, runs: DagRuns) -> None:
    done = site.kommuna("check", "dags/support")
    assert done.returncode == 0, done.stdout + done.stderr

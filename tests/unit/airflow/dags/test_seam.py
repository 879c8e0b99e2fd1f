"""Ordinary DAG files in a team's bundle: the team's defaults are filled in, however the DAG is made."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from airflow.sdk import DAG

from kommuna.airflow.admission.policies import dag_policy
from kommuna.airflow.dags.seam import with_team_defaults
from kommuna.errors import SpecError
from kommuna.spec.installation import place_of

Load = Callable[..., ModuleType]
EMPTY = "from airflow.providers.standard.operators.empty import EmptyOperator\n"


def accepted(dag: Any) -> Any:
    """Returns the DAG after the policy, which raises if admission refuses it."""
    dag_policy(dag)
    return dag


@pytest.mark.parametrize(
    "source",
    [
        'from airflow.sdk import DAG\nwith DAG("plain", tags=["x"]) as dag:\n    EmptyOperator(task_id="t")\n',
        'from airflow import DAG\ndag = DAG(dag_id="plain", tags={"x"})\nEmptyOperator(task_id="t", dag=dag)\n',
        'from airflow.models import DAG\ndag = DAG("plain", tags=("x",))\ntask = EmptyOperator(task_id="t")\ntask.dag = dag\n',
        'from airflow.sdk import dag\n@dag(tags=["x"])\ndef plain():\n    EmptyOperator(task_id="t")\ndag = plain()\n',
        'from airflow.decorators import dag\n@dag("plain", tags=["x"])\ndef other():\n    EmptyOperator(task_id="t")\ndag = other()\n',
        'from airflow.sdk import DAG\nclass Ours(DAG):\n    pass\nwith Ours("plain", tags=["x"]) as dag:\n    EmptyOperator(task_id="t")\n',
    ],
)
def test_every_way_to_make_a_dag_gets_the_teams_defaults(load: Load, platform: Path, source: str) -> None:
    dag = accepted(load(EMPTY + source).dag)
    assert dag.dag_id == "support__plain"
    assert sorted(dag.tags) == ["messages", "support", "x"]
    assert dag.get_task("t").pool == "support__default"
    assert dag.fileloc == str(platform / "dags/support/file.py")


def test_an_owner_comes_from_the_team_unless_the_file_names_one(load: Load) -> None:
    source = EMPTY + 'from airflow.sdk import DAG\nwith DAG("d"{}) as dag:\n    EmptyOperator(task_id="t")\n'
    assert load(source.format("")).dag.get_task("t").owner == "Client support"
    assert load(source.format(', default_args={"owner": "ann"}')).dag.get_task("t").owner == "ann"


def test_nothing_else_of_an_ordinary_dag_is_changed(load: Load) -> None:
    source = (
        EMPTY
        + 'from datetime import datetime\nfrom airflow.sdk import DAG\nwith DAG("d", schedule="@daily", catchup=True, start_date=datetime(2026, 1, 1)) as dag:\n    EmptyOperator(task_id="t")\n'
    )
    dag = load(source).dag
    assert (dag.schedule, dag.catchup, dag.max_active_runs, dag.get_task("t").retries) == ("@daily", True, 16, 0)
    assert dag.render_template_as_native_obj is False


def test_a_dag_made_by_a_library_belongs_to_the_file_that_calls_it(load: Load, platform: Path, tmp_path: Path) -> None:
    library = tmp_path / "elsewhere" / "dag_maker.py"
    library.parent.mkdir()
    library.write_text("from airflow.sdk import DAG\ndef make(name):\n    return DAG(name)\n")
    sys.path.insert(0, str(library.parent))
    try:
        dag = load('from dag_maker import make\ndag = make("made")\n').dag
    finally:
        sys.path.remove(str(library.parent))
    assert (dag.dag_id, dag.fileloc) == ("support__made", str(platform / "dags/support/file.py"))


def test_another_teams_prefix_is_refused(load: Load) -> None:
    with pytest.raises(SpecError, match="'fraud__x' has the prefix of team 'fraud'"):
        load('from airflow.sdk import DAG\nDAG("fraud__x")\n')


def test_a_dag_outside_of_every_bundle_stays_as_it_is() -> None:
    dag = DAG("loose")
    assert (dag.dag_id, set(dag.tags), dag.default_args) == ("loose", set(), {})
    assert dag.fileloc == __file__


IDS = """
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.providers.standard.sensors.external_task import ExternalTaskMarker, ExternalTaskSensor
from airflow.sdk import DAG

with DAG("d") as dag:
    TriggerDagRunOperator(task_id="own", trigger_dag_id="helpers")
    TriggerDagRunOperator(task_id="full", trigger_dag_id="support__helpers")
    TriggerDagRunOperator(task_id="told", trigger_dag_id="{{ params.which }}")
    TriggerDagRunOperator.partial(task_id="mapped", trigger_dag_id="helpers").expand(conf=[{}, {}])
    ExternalTaskSensor(task_id="wait", external_dag_id="helpers")
    ExternalTaskMarker(task_id="mark", external_dag_id="helpers", external_task_id="t")
    TriggerDagRunOperator(task_id="theirs", trigger_dag_id="fraud__cards")
"""


def test_bare_ids_of_other_dags_are_the_teams_own(load: Load) -> None:
    dag = accepted(load(IDS).dag)
    found = {
        task.task_id: getattr(task, "partial_kwargs", vars(task)).get("trigger_dag_id")
        or getattr(task, "external_dag_id", None)
        for task in dag.tasks
    }
    assert found == {
        **dict.fromkeys(("own", "full", "mapped", "wait", "mark"), "support__helpers"),
        "told": "{{ params.which }}",
        "theirs": "fraud__cards",  # is not the team's, and the platform refuses it at the run
    }


def test_pool_names_of_kommuna_yaml_mean_the_teams_pools(load: Load) -> None:
    dag = accepted(
        load(
            EMPTY + 'from airflow.sdk import DAG\nwith DAG("d") as dag:\n    EmptyOperator(task_id="t", pool="gpu")\n'
        ).dag
    )
    assert dag.get_task("t").pool == "support__gpu"


@pytest.mark.slow
def test_the_seam_is_installed_in_a_process_that_only_imports_airflow(platform: Path) -> None:
    file = platform / "dags/support/plain.py"
    file.write_text('from airflow.sdk import DAG\nprint(DAG("plain").dag_id)\n')
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=True, cwd=platform)
    assert done.stdout.strip().splitlines()[-1] == "support__plain"


def test_prefixes_of_other_teams_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a pod of one team: its kommuna.yaml holds that team alone."""
    (tmp_path / "kommuna.yaml").write_text("teams:\n  support: {bundle: dags}\nneighbours: [fraud]\n")
    place = place_of(tmp_path / "dags" / "d.py")
    assert with_team_defaults(place, ("etl__daily",), {})[0] == ("support__etl__daily",)
    with pytest.raises(SpecError, match="prefix of team 'fraud'"):
        with_team_defaults(place, ("fraud__daily",), {})

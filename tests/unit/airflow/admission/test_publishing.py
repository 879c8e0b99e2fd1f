"""Data published to other teams: what admission accepts, and which DAGs an event starts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import pytest
from airflow.exceptions import AirflowClusterPolicyViolation

from kommuna.airflow.admission.policies import dag_policy
from kommuna.airflow.admission.publishing import PublishingAssetManager

Load = Callable[..., ModuleType]
HEAD = """
from airflow.sdk import DAG, Asset, AssetAccessControl
from airflow.providers.standard.operators.empty import EmptyOperator

"""
PRODUCER = (
    HEAD
    + """
scores = Asset("scores", access_control=AssetAccessControl(consumer_teams=["fraud"]))
with DAG("produce") as dag:
    EmptyOperator(task_id="t", outlets=[scores])
"""
)
CONSUMER = (
    HEAD
    + """
with DAG("consume", schedule=Asset.ref(name="support__scores")) as dag:
    EmptyOperator(task_id="t")
"""
)


def test_admission_accepts_a_producer_that_names_its_consumers_and_a_consumer(load: Load) -> None:
    dag_policy(load(PRODUCER).dag)
    dag_policy(load(CONSUMER, team="fraud").dag)


def test_a_consumer_that_is_not_a_team_is_refused(load: Load) -> None:
    with pytest.raises(
        AirflowClusterPolicyViolation, match=r"published to 'frod', which is not a team \(did you mean 'fraud'"
    ):
        dag_policy(load(PRODUCER.replace('["fraud"]', '["frod"]')).dag)


def test_another_teams_asset_cannot_be_declared(load: Load) -> None:
    source = CONSUMER.replace('Asset.ref(name="support__scores")', '[Asset("support__scores")]')
    with pytest.raises(AirflowClusterPolicyViolation, match=r"schedule on Asset\.ref"):
        dag_policy(load(source, team="fraud").dag)


@pytest.mark.parametrize(
    ("consumers", "started"),
    [(None, {"support__b"}), ([], {"support__b"}), (["fraud"], {"support__b", "fraud__c"})],
)
def test_an_event_starts_dags_of_its_team_and_of_the_teams_that_it_is_published_to(
    monkeypatch: pytest.MonkeyPatch, consumers: list[str] | None, started: set[str]
) -> None:
    from airflow.models.dag import DagModel

    teams = {"support__b": "support", "fraud__c": "fraud", "other__d": "other", "nobodys": None}
    monkeypatch.setattr(DagModel, "get_dag_id_to_team_name_mapping", lambda ids, session: {i: teams[i] for i in ids})
    dags = [SimpleNamespace(dag_id=dag_id) for dag_id in teams]
    kept = [dag for dag in dags if dag in _filtered(dags, consumers)]
    assert {dag.dag_id for dag in kept} == started


def _filtered(dags: list[SimpleNamespace], consumers: list[str] | None) -> list[SimpleNamespace]:
    hashable = {_Dag(dag) for dag in dags}
    found = PublishingAssetManager._filter_dags_by_team(
        hashable,  # type: ignore[arg-type]
        {"support"},
        None,
        False,
        session=None,
        allow_consumer_teams=consumers,
    )
    return [dag.dag for dag in found]  # type: ignore[attr-defined]


class _Dag:
    """A row of a DAG, which a set can hold."""

    def __init__(self, dag: SimpleNamespace) -> None:
        self.dag = dag
        self.dag_id = dag.dag_id


@pytest.mark.slow
@pytest.mark.parametrize("first", ["airflow.models.dag", "airflow.assets.manager"])
def test_the_class_works_whichever_module_airflow_imports_first(first: str) -> None:
    code = f"import {first}\nfrom airflow.assets.manager import asset_manager\nprint(type(asset_manager).__name__)"
    environment = {
        **os.environ,
        "AIRFLOW__CORE__ASSET_MANAGER_CLASS": "kommuna.airflow.admission.publishing.PublishingAssetManager",
    }
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip().splitlines()[-1:] == ["PublishingAssetManager"], done.stderr

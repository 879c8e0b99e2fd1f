"""Assets in ordinary DAG files: names and addresses of the team itself and of other teams."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.serialization.serialized_objects import DagSerialization

from kommuna.airflow.admission.policies import dag_policy

Load = Callable[..., ModuleType]
HEAD = "from airflow.sdk import DAG, Asset, AssetAlias, asset, task\n"


@pytest.mark.parametrize(
    ("written", "name", "uri"),
    [
        ('Asset("scores")', "support__scores", "support__scores"),
        ('Asset("support__scores")', "support__scores", "support__scores"),
        ('Asset(name="scores", uri="s3://bucket/support/x")', "support__scores", "s3://bucket/support/x"),
        ('Asset("scores", "s3://bucket/x")', "support__scores", "s3://bucket/x?team=support"),
        ('Asset(uri="s3://bucket/x?a=1")', "support__s3://bucket/x?a=1", "s3://bucket/x?a=1&team=support"),
        ('Asset("s3://bucket/x")', "support__s3://bucket/x", "s3://bucket/x?team=support"),
        ('Asset("fraud__scores")', "fraud__scores", "fraud__scores"),
        ('Asset("fraud__scores", "s3://bucket/x")', "fraud__scores", "s3://bucket/x"),
        ('Asset(Asset("scores").name, Asset("scores", "s3://b/x").uri)', "support__scores", "s3://b/x?team=support"),
    ],
)
def test_an_asset_belongs_to_the_team_unless_it_names_another(load: Load, written: str, name: str, uri: str) -> None:
    asset = load(f"{HEAD}made = {written}\n").made
    assert (asset.name, asset.uri) == (name, uri)


def test_aliases_and_references_get_the_same_names(load: Load) -> None:
    module = load(
        HEAD
        + 'alias, name, other = AssetAlias("day"), Asset.ref(name="scores"), Asset.ref(name="fraud__scores")\n'
        + 'uri = Asset.ref(uri="s3://bucket/x")\n'
    )
    assert (module.alias.name, module.name.name, module.other.name) == (
        "support__day",
        "support__scores",
        "fraud__scores",
    )
    assert module.uri.uri == "s3://bucket/x?team=support"


def test_an_asset_outside_of_every_bundle_stays_as_it_is() -> None:
    assert (Asset("scores", "s3://bucket/x").name, Asset("scores", "s3://bucket/x").uri) == ("scores", "s3://bucket/x")


def test_a_reference_in_a_template_means_the_team_of_the_running_dag(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.definitions.asset import AssetUriRef

    from kommuna.airflow.dags import callers

    monkeypatch.setattr(callers, "parsed", None)
    assert AssetUriRef("s3://bucket/x").uri == "s3://bucket/x"
    dag_policy(load(HEAD + 'dag = DAG("d")\n').dag)
    assert AssetUriRef(uri="s3://bucket/x").uri == "s3://bucket/x?team=support"
    assert Asset.ref(name="scores").name == "support__scores"
    assert Asset("scores").name == "scores"  # a declaration is only ever a file's


DECORATED = (
    HEAD
    + """
@asset(schedule="@daily", uri="s3://bucket/raw")
def raw():
    return 1

@asset(schedule=raw)
def clean(self, context, raw):
    return self.name, raw.name
"""
)


def dags_of(module: ModuleType) -> dict[str, Any]:
    from airflow.sdk.definitions._internal.contextmanager import DagContext

    return {dag.dag_id: dag for dag, _ in DagContext.autoregistered_dags if dag.fileloc == module.__file__}


@pytest.fixture
def registering(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.definitions._internal.contextmanager import DagContext

    monkeypatch.setattr(DagContext, "current_autoregister_module_name", "sys")
    monkeypatch.setattr(DagContext, "autoregistered_dags", set())


@pytest.mark.usefixtures("registering")
def test_at_asset_makes_a_dag_and_an_asset_of_the_team(load: Load) -> None:
    dags = dags_of(load(DECORATED))
    assert set(dags) == {"support__raw", "support__clean"}
    for dag in dags.values():
        dag_policy(dag)
        DagSerialization.from_dict(DagSerialization.to_dict(dag))
    (task,) = dags["support__clean"].tasks
    assert task.pool == "support__default"
    assert [inlet.name for inlet in task.inlets] == ["support__raw"]
    assert [outlet.name for outlet in task.outlets] == ["support__clean"]


@pytest.mark.usefixtures("registering")
def test_the_function_of_at_asset_gets_the_teams_assets_by_bare_names(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import AssetResult

    class Comms:
        def send(self, message: Any) -> AssetResult:
            return AssetResult(name=message.name, uri=message.name, group="asset")

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Comms(), raising=False)
    (task,) = dags_of(load(DECORATED))["support__clean"].tasks
    given = task.determine_kwargs({"ti": 1})
    assert {name: getattr(value, "name", value) for name, value in given.items()} == {
        "self": "support__clean",
        "context": {"ti": 1},
        "raw": "support__raw",
    }
    assert task.python_callable(**given) == ("support__clean", "support__raw")

"""Registration against a real MLflow server: complete, loadable, once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import requests

from kommuna.errors import MissingColumn, RegistryError, SpecError
from kommuna.spec.step import Services, StepContext
from kommuna.steps.registry.client import ModelVersion, Registry
from kommuna.steps.registry.register import register
from kommuna.steps.training.evaluation.scores import Compared, Scores
from kommuna.steps.training.tagger import Tagger


@pytest.fixture
def registry(mlflow_server: str) -> Registry:
    return Registry(mlflow_server, "support")


def context(digest: str, *, team: str = "support", key: str = "a" * 64) -> StepContext:
    return StepContext(
        team=team,
        dag_id=f"{team}__topics",
        run_id="manual__1",
        task_id="register",
        key=key,
        inputs={"model": digest, "scores": "5" * 64, "sample": "6" * 64},
        manifests={"model": "b" * 64},
    )


def rest(url: str, path: str, **params: str) -> dict:
    answer = requests.get(
        f"{url}/api/2.0/mlflow/{path}", params=params, headers={"X-MLFLOW-WORKSPACE": "support"}, timeout=30
    )
    answer.raise_for_status()
    return answer.json()


@pytest.mark.slow
def test_a_versions_page_says_what_it_is_and_what_it_was_made_of(
    mlflow_server: str, tagger: Tagger, scores: Scores, messages: pl.DataFrame
) -> None:
    registry = Registry(mlflow_server, "support", airflow_pages="http://airflow.example/")
    compared = Compared(model="1" * 64, gold="2" * 64, dev="3" * 64, messages="4" * 64)
    made_of = {"model": "b" * 64, "scores": "c" * 64}
    found = register(
        tagger,
        scores.model_copy(update={"compared": compared}),
        messages.lazy(),
        name="described",
        context=context("e" * 64).model_copy(update={"manifests": made_of, "run_id": "manual__1+2"}),
        registry=registry,
    )
    model = rest(registry.url, "registered-models/get", name="described")["registered_model"]
    assert "Model of team `support`, registered by the DAG `support__topics`." in model["description"]
    version = rest(registry.url, "model-versions/get", name="described", version="1")["model_version"]
    for part in (
        "macro F1 ",
        "[support__topics, manual__1+2](http://airflow.example/dags/support__topics/runs/manual__1%2B2)",
        f"(http://airflow.example/kommuna/dags/support__topics/manifests/{'c' * 64}/outputs/report)",
        f"kommuna show {'b' * 16}",
        "kommuna models rebuild described",
    ):
        assert part in version["description"]
    inputs = rest(registry.url, "runs/get", run_id=found.version.run_id)["run"]["inputs"]["dataset_inputs"]
    by_name = {one["dataset"]["name"]: one for one in inputs}
    assert {name: one["tags"][0]["value"] for name, one in by_name.items()} == {
        "messages": "training", "dev": "validation", "gold": "evaluation",
    }  # fmt: skip
    gold = by_name["gold"]["dataset"]
    assert gold["digest"] == "2" * 36
    assert json.loads(gold["profile"]) == {"sha256": "2" * 64}
    assert json.loads(gold["schema"])["mlflow_colspec"] == [{"name": "text", "type": "string", "required": True}]


@pytest.mark.slow
def test_mlflows_api_returns_everything_about_a_version(
    registry: Registry, tagger: Tagger, scores: Scores, messages: pl.DataFrame
) -> None:
    found = register(tagger, scores, messages.lazy(), name="whole", context=context("1" * 64), registry=registry)
    version = rest(registry.url, "registered-models/alias", name="whole", alias="challenger")["model_version"]
    assert version["version"] == found.version.version == "1"
    tags = {tag["key"]: tag["value"] for tag in version["tags"]}
    assert tags["kommuna.model_digest"] == "1" * 64
    assert tags["kommuna.manifest"] == "b" * 64
    assert tags["kommuna.team"] == "support"
    run = rest(registry.url, "runs/get", run_id=found.version.run_id)["run"]
    assert {m["key"]: m["value"] for m in run["data"]["metrics"]} == scores.metrics
    run_tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
    assert run_tags["kommuna.key"] == "a" * 64
    assert run_tags["kommuna.dag"] == "support__topics"
    assert "5" * 64 in run_tags["kommuna.inputs"]
    assert run["info"]["status"] == "FINISHED"
    experiment = run["info"]["experiment_id"]
    page = f"{registry.url}/#/experiments/{experiment}/runs/{found.version.run_id}?workspace=support"
    assert found.links == {
        "MLflow run": page,
        "MLflow model": f"{registry.url}/#/models/whole/versions/1?workspace=support",
    }
    assert found.metrics == {"version": 1.0, "new": 1.0}


def test_links_use_the_public_address_of_mlflow(
    mlflow_server: str, tagger: Tagger, scores: Scores, messages: pl.DataFrame
) -> None:
    services = Services(mlflow=mlflow_server, mlflow_pages="https://mlflow.example/", workspace="support")
    registry = Registry.from_services(services)
    found = register(tagger, scores, messages.lazy(), name="seen", context=context("3" * 64), registry=registry)
    assert found.links["MLflow model"] == "https://mlflow.example/#/models/seen/versions/1?workspace=support"
    assert found.links["MLflow run"].startswith("https://mlflow.example/#/experiments/")


def test_the_registered_model_returns_the_tags_of_the_tagger(
    registry: Registry, tagger: Tagger, scores: Scores, messages: pl.DataFrame
) -> None:
    import mlflow

    register(tagger, scores, messages.lazy(), name="loaded", context=context("2" * 64), registry=registry)
    with registry.session():
        model = mlflow.pyfunc.load_model("models:/loaded/1")
        given = model.predict(messages.select("text").to_pandas())
    want = tagger.predict_table(messages)
    assert given["tag"].tolist() == want["tag"].to_list()
    assert np.allclose(given["confidence"], want["confidence"].to_numpy(), atol=1e-6)
    assert [column.name for column in model.metadata.signature.inputs] == ["text"]
    assert [column.name for column in model.metadata.signature.outputs] == ["tag", "confidence", "decision"]
    assert model.input_example is not None


def test_the_same_model_is_registered_once(
    registry: Registry, tagger: Tagger, scores: Scores, messages: pl.DataFrame
) -> None:
    one = register(tagger, scores, messages.lazy(), name="once", context=context("3" * 64), registry=registry)
    two = register(tagger, scores, messages.lazy(), name="once", context=context("3" * 64), registry=registry)
    assert two.version == one.version
    assert two.metrics["new"] == 0
    other = register(tagger, scores, messages.lazy(), name="once", context=context("4" * 64), registry=registry)
    assert other.version.version == "2"
    again = register(tagger, scores, messages.lazy(), name="once", context=context("3" * 64), registry=registry)
    assert again.version.version == "1"
    assert registry.by_alias("once", "challenger") == again.version


@pytest.mark.slow
def test_a_kill_in_the_middle_creates_no_duplicates(
    registry: Registry, tagger: Tagger, scores: Scores, messages: pl.DataFrame, tmp_path: Path
) -> None:
    """After a kill between logging the run and creating the version, the next try continues the same run."""
    tagger.save(tmp_path / "model")
    messages.write_parquet(tmp_path / "messages.parquet")
    (tmp_path / "scores.json").write_text(scores.model_dump_json())
    (tmp_path / "context.json").write_text(context("7" * 64).model_dump_json())
    program = f"""
import os, pathlib, signal, polars as pl
from mlflow import MlflowClient
from kommuna.spec.step import Services, StepContext
from kommuna.steps.registry.client import Registry
from kommuna.steps.registry.register import register
from kommuna.steps.training.evaluation.scores import Scores
from kommuna.steps.training.tagger import Tagger
MlflowClient.create_model_version = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
folder = pathlib.Path({str(tmp_path)!r})
register(
    Tagger.load(folder / "model"),
    Scores.model_validate_json((folder / "scores.json").read_text()),
    pl.scan_parquet(folder / "messages.parquet"),
    name="killed",
    context=StepContext.model_validate_json((folder / "context.json").read_text()),
    registry=Registry({registry.url!r}, "support"),
)
"""
    dead = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, env=dict(os.environ))
    assert dead.returncode == -signal.SIGKILL
    found = register(tagger, scores, messages.lazy(), name="killed", context=context("7" * 64), registry=registry)
    assert found.version.version == "1"
    with registry.session() as client:
        experiment = client.get_experiment_by_name("killed")
        runs = client.search_runs([experiment.experiment_id])
    assert [run.info.run_id for run in runs] == [found.version.run_id]
    assert runs[0].info.status == "FINISHED"


def test_two_teams_may_use_the_same_model_name(
    mlflow_server: str, registry: Registry, tagger: Tagger, scores: Scores, messages: pl.DataFrame
) -> None:
    fraud = Registry(mlflow_server, "fraud")
    ours = register(tagger, scores, messages.lazy(), name="same", context=context("8" * 64), registry=registry)
    theirs = register(
        tagger, scores, messages.lazy(), name="same", context=context("8" * 64, team="fraud"), registry=fraud
    )
    assert ours.version.version == theirs.version.version == "1"
    assert ours.version.run_id != theirs.version.run_id
    assert theirs.metrics["new"] == 1


def test_multi_label_are_registered_and_loaded(
    registry: Registry, tagger: Tagger, scores: Scores, messages: pl.DataFrame
) -> None:
    import mlflow

    several = replace(tagger, multi_label=True, thresholds=(0.5, 0.4))
    register(several, scores, messages.lazy(), name="several", context=context("9" * 64), registry=registry)
    with registry.session():
        given = mlflow.pyfunc.load_model("models:/several/1").predict(messages.select("text").to_pandas())
    want = several.predict_table(messages)["tags"].to_list()
    assert [list(tags) for tags in given["tags"]] == want


def test_a_sample_without_the_features_is_refused_before_any_request(tagger: Tagger, scores: Scores) -> None:
    sample = pl.LazyFrame({"body": ["hello"]})
    with pytest.raises(MissingColumn, match="no column 'text'"):
        register(
            tagger, scores, sample, name="x", context=context("1" * 64), registry=Registry("http://127.0.0.1:1", "a")
        )


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "a'b"])
def test_a_bad_name_is_refused(tagger: Tagger, scores: Scores, messages: pl.DataFrame, name: str) -> None:
    with pytest.raises(SpecError, match="is not a valid name for a registered model"):
        register(
            tagger,
            scores,
            messages.lazy(),
            name=name,
            context=context("1" * 64),
            registry=Registry("http://127.0.0.1:1", "a"),
        )


def test_nothing_is_created_in_a_missing_workspace(
    mlflow_server: str, tagger: Tagger, scores: Scores, messages: pl.DataFrame
) -> None:
    with pytest.raises(RegistryError, match="has no workspace 'nobody'"):
        register(
            tagger,
            scores,
            messages.lazy(),
            name="topics",
            context=context("1" * 64),
            registry=Registry(mlflow_server, "nobody"),
        )


def test_a_version_survives_json() -> None:
    version = ModelVersion(name="a", version="1", tags={"kommuna.model_digest": "1" * 64})
    assert ModelVersion.model_validate_json(version.model_dump_json()) == version
    assert version.model_digest == "1" * 64


@pytest.mark.slow
def test_a_deleted_experiment_is_named_with_the_way_out(
    registry: Registry, tagger: Tagger, scores: Scores, messages: pl.DataFrame
) -> None:
    import mlflow

    register(tagger, scores, messages.lazy(), name="forgotten", context=context("1" * 64), registry=registry)
    with registry.session() as client:
        experiment = mlflow.get_experiment_by_name("forgotten")
        assert experiment is not None
        client.delete_experiment(experiment.experiment_id)
    with pytest.raises(RegistryError, match="deleted experiment") as error:
        register(tagger, scores, messages.lazy(), name="forgotten", context=context("2" * 64), registry=registry)
    assert "restore it in MLflow" in error.value.fix

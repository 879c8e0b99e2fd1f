"""Step: logs a trained model to MLflow and registers it as a version, once."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import structlog

from kommuna.errors import SpecError
from kommuna.spec.caching import step
from kommuna.spec.step import StepContext
from kommuna.steps.etl.preparation import TextPreparation
from kommuna.steps.registry.client import Registry
from kommuna.steps.registry.described import datasets, model_description, version_description
from kommuna.steps.registry.model_version import (
    CHALLENGER,
    DAG,
    EXPERIMENT,
    KEY,
    MANIFEST,
    MODEL_DIGEST,
    TEAM,
    ModelVersion,
)
from kommuna.steps.registry.packaged import packaged
from kommuna.steps.registry.service import Service
from kommuna.steps.training.evaluation.scores import Scores
from kommuna.steps.training.tagger import Tagger

log = structlog.get_logger()

EXAMPLE_ROWS = 3


class Registered(NamedTuple):
    """Outputs of `register`."""

    version: ModelVersion
    links: dict[str, str]
    metrics: dict[str, float]


@step(cacheable=False)
def register(
    model: Tagger,
    scores: Scores,
    sample: pl.LazyFrame,
    preparation: TextPreparation | None = None,
    *,
    name: str,
    context: StepContext,
    registry: Registry,
) -> Registered:
    """Logs a run and registers a model version with alias `challenger`.

    Registering is idempotent: the model's content digest is a tag of the version, created together with it, so a second
    call for the same model (for example after a kill) finds the version again.

    Args:
        model: the tagger.
        scores: its evaluation; the metrics are logged.
        sample: a few masked rows with the model's features, for the signature and input example; MLflow shows them.
        preparation: how the texts were prepared that the model learned from; the version then takes raw texts. If
            absent, it takes rows as the model learned them.
        name: name of the registered model.
        context: the run of the step; the inputs' digests are logged as lineage.
        registry: the team's registry.

    Returns:
        version: name, version, run and URLs.
        links: `MLflow run`, `MLflow model`.
        metrics: version; new (0 if the version already existed).

    Raises:
        RegistryError: MLflow is unreachable or refuses the request.
        SpecError: the name is invalid.
        MissingColumn: `sample` lacks a feature.
    """
    if not name or any(c in name for c in "/:'`\"") or len(name) > 200:
        raise SpecError(
            f"'{name}' is not a valid name for a registered model", fix="use letters, digits, '_', '-' and '.'"
        )
    example = sample.head(EXAMPLE_ROWS).collect(engine="streaming")
    service = Service(model, preparation)
    service.answer(example)  # refuses a sample that lacks a feature before anything is made
    digest = context.inputs.get("model", "")
    found = registry.by_digest(name, digest) if digest else None
    version = found or _log_and_register(service, scores, example, name, context, registry, digest)
    if CHALLENGER not in version.aliases:
        registry.set_alias(version, CHALLENGER)
        version = version.model_copy(update={"aliases": (*version.aliases, CHALLENGER)})
    log.info("model.registered", name=name, version=version.version, run_id=version.run_id, new=found is None)
    links = {"MLflow run": version.run_url, "MLflow model": version.url}
    return Registered(version, links, {"version": float(version.version), "new": float(found is None)})


def _log_and_register(
    service: Service,
    scores: Scores,
    example: pl.DataFrame,
    name: str,
    context: StepContext,
    registry: Registry,
    digest: str,
) -> ModelVersion:
    import mlflow

    about = _about(context, digest)
    with registry.session() as client, tempfile.TemporaryDirectory(prefix="kommuna-register-") as folder:
        _model_exists(client, name, context)
        experiment = mlflow.set_experiment(name)
        unfinished = _unfinished_run(client, experiment.experiment_id, about)
        run_name = context.run_id or context.key[:12] or None
        with mlflow.start_run(run_id=unfinished, run_name=None if unfinished else run_name, tags=about) as run:
            mlflow.log_params(_params(service.tagger))
            mlflow.log_metrics(scores.metrics)
            mlflow.log_dict(scores.model_dump(mode="json"), "scores.json")
            mlflow.log_dict(dict(context.inputs), "lineage.json")
            logged = mlflow.pyfunc.log_model(name="model", **packaged(service, example, Path(folder)))
        tags = about | {
            MODEL_DIGEST: digest,
            MANIFEST: context.manifests.get("model", ""),
            EXPERIMENT: experiment.experiment_id,
        }
        client.log_inputs(run.info.run_id, datasets=datasets(service.tagger, scores, example, context.team))
        made = client.create_model_version(
            name,
            logged.model_uri,
            run_id=run.info.run_id,
            tags={k: v for k, v in tags.items() if v},
            model_id=logged.model_id,
            description=version_description(name, service.tagger, scores, context, registry),
        )
        return registry.described(made)


def _params(model: Tagger) -> dict[str, str]:
    columns = ", ".join(model.columns)
    encoder = {"encoder": model.encoder} if model.encoder else {}
    about = encoder | {
        "classifier": model.classifier,
        "tags": str(len(model.tags)),
        "multi_label": str(model.multi_label),
    }
    return about | {"features": columns[:500]} | {f"trained.{k}": f"{v:.6g}" for k, v in model.trained_on.items()}


def _about(context: StepContext, digest: str) -> dict[str, str]:
    about: Mapping[str, str] = {
        TEAM: context.team,
        DAG: context.dag_id,
        "kommuna.run": context.run_id,
        "kommuna.task": context.task_id,
        KEY: context.key,
        MODEL_DIGEST: digest,
        "kommuna.inputs": json.dumps(context.inputs, sort_keys=True)[:5000] if context.inputs else "",
    }
    return {name: value for name, value in about.items() if value}


def _model_exists(client: Any, name: str, context: StepContext) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=model_description(name, context))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _unfinished_run(client: Any, experiment_id: str, about: Mapping[str, str]) -> str | None:
    """Returns the id of an unfinished run of the same step on the same model, left by a kill; None without one."""
    if not about.get(KEY) or not about.get(MODEL_DIGEST):
        return None
    same = f"tags.`{KEY}` = '{about[KEY]}' and tags.`{MODEL_DIGEST}` = '{about[MODEL_DIGEST]}'"
    runs = client.search_runs([experiment_id], same, max_results=1)
    return str(runs[0].info.run_id) if runs else None

"""Versions of a model in a real registry, and their promotion, without a trained model."""

from __future__ import annotations

import contextlib
from typing import Any

from kommuna.spec.step import StepContext
from kommuna.steps.registry.client import Registry
from kommuna.steps.registry.model_version import ModelVersion
from kommuna.steps.registry.promote import Promotion, promote
from kommuna.steps.training.evaluation.scores import Compared, Scores, SliceScore

GATE = "f1_macro >= 0.7 and f1_macro >= champion.f1_macro - 0.01"
GOLD = "9" * 64


def _experiment(client: Any) -> str:
    found = client.get_experiment_by_name("by hand")
    return str(found.experiment_id if found else client.create_experiment("by hand"))


def add(registry: Registry, name: str, digest: str = "") -> ModelVersion:
    """Adds a version to the registry as `register` does; without a digest, as a person does."""
    from mlflow.exceptions import MlflowException

    with registry.session() as client:
        with contextlib.suppress(MlflowException):
            client.create_registered_model(name)
        tags = {"kommuna.model_digest": digest} if digest else {}
        run = client.create_run(_experiment(client)).info
        return registry.described(client.create_model_version(name, run.artifact_uri, run_id=run.run_id, tags=tags))


def scored(
    version: ModelVersion,
    champion: ModelVersion | None,
    *,
    gold: str = GOLD,
    slices: tuple[SliceScore, ...] = (),
    **metrics: float,
) -> Scores:
    """The evaluation of a version beside a champion."""
    found = {"accuracy": 0.8, "f1_macro": 0.75, "baseline.dev_only.accuracy": 0.7}
    found |= {"champion.f1_macro": 0.7, "champion.accuracy": 0.7} if champion else {}
    found |= {name.replace("__", "."): value for name, value in metrics.items()}
    compared = Compared(
        model=version.identity,
        gold=gold,
        dev="d" * 64,
        messages="a" * 64,
        champion=champion.identity if champion else "",
    )
    return Scores(
        rows=100, multi_label=False, metrics=found, per_tag=(), confusions=(), reliability=(), compared=compared,
        slices=slices,
    )  # fmt: skip


def judged(
    registry: Registry, version: ModelVersion, champion: ModelVersion | None, *, gate: str = GATE, **options: Any
) -> Promotion:
    """The gate's decision on a version that was evaluated beside a champion."""
    context = StepContext(team="support", dag_id="support__topics", run_id="manual__1", manifests={"scores": "e" * 64})
    scores = scored(version, champion, **options)
    return promote(version, scores, gate=gate, context=context, registry=registry).promotion


def champion_of(registry: Registry, name: str) -> str:
    """The champion's number; empty if there is none."""
    found = registry.by_alias(name, "champion")
    return found.version if found else ""

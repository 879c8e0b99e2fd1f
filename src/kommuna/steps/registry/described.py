"""What MLflow's pages say about a registered model and its versions: descriptions, links and datasets."""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from kommuna.spec.step import StepContext
from kommuna.steps.registry.client import Registry
from kommuna.steps.training.evaluation.scores import Scores
from kommuna.steps.training.tagger import Tagger

_DIGEST_CHARACTERS = 36  # of MLflow's column; the profile has the whole digest
_CONTEXTS = {"messages": "training", "dev": "validation", "gold": "evaluation"}


def model_description(name: str, context: StepContext) -> str:
    """Returns the description of a registered model, in Markdown.

    Args:
        name: the registered model.
        context: the run of the step that registers its first version.
    """
    by = f" by the DAG `{context.dag_id}`" if context.dag_id else ""
    return (
        f"Model of team `{context.team}`, registered{by}. The alias `champion` is moved by the DAG's gate; "
        f"`kommuna models list {name}` shows its versions and why each became the champion, or did not."
    )


def version_description(name: str, model: Tagger, scores: Scores, context: StepContext, registry: Registry) -> str:
    """Returns the description of a version, in Markdown, with links to its run and its report in Airflow.

    Args:
        name: the registered model.
        model: the tagger.
        scores: its evaluation.
        context: the run of the step that registers it.
        registry: the team's registry, which knows the address of Airflow's pages.
    """
    lines = [f"`{model.classifier}`, {len(model.tags)} tags: macro F1 {scores.metrics.get('f1_macro', 0):.3f} on gold."]
    if context.dag_id and context.run_id:
        lines.append(
            f"Made by [{context.dag_id}, {context.run_id}]({registry.run_url(context.dag_id, context.run_id)})."
        )
    if evaluation := context.manifests.get("scores"):
        lines.append(f"[Evaluation report]({registry.report_url(context.dag_id, evaluation)}).")
    if trained := context.manifests.get("model"):
        lines.append(
            f"`kommuna show {trained[:16]}` shows what it was made of, and `kommuna models rebuild {name}` with this "
            "version's number trains it again."
        )
    return "\n\n".join(lines)


def datasets(model: Tagger, scores: Scores, sample: pl.DataFrame, team: str) -> list[Any]:
    """Returns the evaluation's tables as MLflow's dataset inputs, with digests and the schema of the features.

    Args:
        model: the tagger.
        scores: its evaluation, which names the tables by their digests.
        sample: rows with the model's features.
        team: the team, whose store has the tables.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    found = scores.compared.model_dump() if scores.compared else {}
    columns = [
        {"name": name, "type": _colspec(sample.schema[name]), "required": True}
        for name in model.columns
        if name in sample.schema
    ]
    return [
        DatasetInput(
            dataset=Dataset(
                name=name,
                digest=found[name][:_DIGEST_CHARACTERS],
                source_type="kommuna",
                source=json.dumps({"team": team, "artifact": found[name]}),
                schema=json.dumps({"mlflow_colspec": columns}),
                profile=json.dumps({"sha256": found[name]}),
            ),
            tags=[InputTag("mlflow.data.context", context)],
        )
        for name, context in _CONTEXTS.items()
        if found.get(name)
    ]


def _colspec(kind: pl.DataType) -> str:
    """Returns MLflow's name of a column type."""
    if kind.is_integer():
        return "long"
    if kind.is_float():
        return "double"
    if kind == pl.Boolean:
        return "boolean"
    return "datetime" if kind.is_temporal() else "string"

"""Columns that a team names otherwise than the steps do are given once, in the DAG's `default_args`."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from kommuna.airflow.operators.mapped import samples

DAG = """
from airflow.sdk import DAG, TaskGroup
from kommuna.airflow import ApplyRulesOperator, LabelOperator, MaskPiiOperator, PredictOperator, TrainClassifierOperator

with DAG("d", default_args={"key": "message_id", "text": "body", "label": "topic"}) as dag:
    masked = MaskPiiOperator(task_id="mask", table="messages.csv")
    votes = ApplyRulesOperator(task_id="vote", messages=masked, rules="rules.yaml")
    named = ApplyRulesOperator(task_id="vote_titles", messages=masked, rules="rules.yaml", text="title")
    labels = LabelOperator(task_id="label", votes=votes["votes"], rules="rules.yaml")
    train = TrainClassifierOperator.partial(task_id="train", messages=masked, labels=labels["labels"], dev="dev.csv")
    train = train.expand(seed=[1, 2])
    with TaskGroup("titles", default_args={"text": "title"}):
        PredictOperator(task_id="predict", messages=masked, model="model.bin")
"""


def test_columns_are_given_once_per_dag_or_group(load: Callable[..., ModuleType]) -> None:
    tasks = {task.task_id: next(iter(samples(task))) for task in load(DAG).dag.tasks}

    def columns(task: str) -> dict[str, str]:
        parameters = tasks[task].parameters
        return {name: parameters[name] for name in ("key", "text", "label") if name in parameters}

    assert columns("vote") == {"key": "message_id", "text": "body"}
    assert columns("vote_titles") == {"key": "message_id", "text": "title"}
    assert columns("label") == {"key": "message_id", "label": "topic"}
    assert columns("train") == {"key": "message_id", "text": "body", "label": "topic"}
    assert columns("titles.predict") == {"key": "message_id", "text": "title"}

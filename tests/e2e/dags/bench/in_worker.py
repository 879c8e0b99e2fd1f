"""A bare step in the worker pod. Each variant has its own file, so that a DAG file only pays for its own imports."""

from kommuna.airflow import StepOperator, TeamDag

with TeamDag("in_worker"):
    StepOperator(
        task_id="step",
        function="kommuna.steps:check",
        step_resources={"memory": "1Gi", "seconds": 300},
        cache=False,
    )

"""A bare step in the worker pod. Each way has a file of its own: a DAG file pays for its own imports only."""

from kommuna.airflow import StepOperator, TeamDag

with TeamDag("in_worker"):
    StepOperator(
        task_id="step",
        function="kommuna.steps:check",
        step_resources={"memory": "1Gi", "seconds": 300},
        cache=False,
    )

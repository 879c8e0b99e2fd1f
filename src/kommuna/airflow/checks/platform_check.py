"""The platform's own DAG in every team: one step, through the team's parser, executor, namespace and store."""

from kommuna.airflow import StepOperator, TeamDag

with TeamDag("platform_check", tags=["platform"]):
    StepOperator(
        task_id="check",
        function="kommuna.steps:check",
        step_resources={"cpu": "250m", "memory": "768Mi", "seconds": 300},
        cache=False,
    )

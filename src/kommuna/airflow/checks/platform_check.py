"""The platform's own DAG in every team: it checks the team's parser, executor, namespace and store with one step."""

from kommuna.airflow import StepOperator, TeamDag

with TeamDag("platform_check", tags=["platform"]):
    StepOperator(
        task_id="check",
        function="kommuna.steps:check",
        step_resources={"cpu": "250m", "memory": "768Mi", "seconds": 300},
        cache=False,
    )

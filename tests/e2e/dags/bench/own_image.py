"""The same step in a pod with its own image."""

from kommuna.airflow import ImageOperator, TeamDag

with TeamDag("own_image"):
    ImageOperator(
        task_id="step",
        function="kommuna.steps:check",
        image="@STEPS@",
        step_resources={"memory": "1Gi", "seconds": 300},
        executor_config={"resources": {"cpu": "1", "memory": "1Gi"}},
        cache=False,
    )

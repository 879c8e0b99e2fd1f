"""DAGs of the end-to-end tests."""

from kommuna.airflow import StepOperator, TeamDag

SMALL = {"cpu": "500m", "memory": "768Mi", "seconds": 300}

with TeamDag("look"):
    StepOperator(
        task_id="look",
        function="probe_steps:look",
        parameters={"words": ["SQL_ALCHEMY", "FERNET", "JWT_SECRET", "postgresql"]},
        step_resources=SMALL,
        cache=False,
    )

with TeamDag("waits", params={"seconds": 30.0}):
    waited = StepOperator(
        task_id="wait",
        function="probe_steps:wait",
        parameters={"seconds": "{{ params.seconds }}"},
        step_resources=SMALL,
        cache=False,
    )
    StepOperator(task_id="count", function="probe_steps:count", inputs={"table": waited}, step_resources=SMALL)

with TeamDag("wide", params={"seconds": 5.0}, max_active_tasks=16):
    for number in range(6):
        StepOperator(
            task_id=f"wait_{number}",
            function="probe_steps:wait",
            parameters={"seconds": "{{ params.seconds }}"},
            step_resources={"cpu": "750m", "memory": "1Gi"},
            cache=False,
        )

with TeamDag("hungry"):
    StepOperator(task_id="hoard", function="probe_steps:hoard", step_resources=SMALL, cache=False)

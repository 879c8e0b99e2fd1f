"""Questions of a team that may use no LLM."""

from kommuna.airflow import ApplyRulesOperator, TeamDag

with TeamDag("questions"):
    ApplyRulesOperator(
        task_id="vote",
        messages="store://inbox/llm/asked.parquet",
        rules="ask_rules.yaml",
        step_resources={"cpu": "500m", "memory": "1Gi", "seconds": 300},
    )

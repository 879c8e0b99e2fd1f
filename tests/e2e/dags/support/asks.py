"""LLM rules on the cluster: questions, and rules that an LLM proposes."""

from kommuna.airflow import ApplyRulesOperator, RefineRulesOperator, TeamDag

SMALL = {"cpu": "500m", "memory": "1Gi", "seconds": 300}

with TeamDag("asks"):
    ApplyRulesOperator(
        task_id="vote",
        messages="store://inbox/llm/asked.parquet",
        rules="ask_rules.yaml",
        step_resources=SMALL,
    )

with TeamDag("refines"):
    RefineRulesOperator(
        task_id="refine",
        messages="store://inbox/llm/messages.parquet",
        dev="store://inbox/llm/dev.parquet",
        proposers=["llm"],
        rounds=1,
        budget={"tokens": 30_000},
        step_resources=SMALL,
    )

"""LLM rules on the cluster: questions, rules that an LLM proposes, and questions that no budget has room for."""

from kommuna.airflow import ApplyRulesOperator, RefineRulesOperator, TeamDag

SMALL = {"cpu": "500m", "memory": "1Gi", "seconds": 300}

for name, messages in (("questions", "asked"), ("too_many_questions", "asked_too_much")):
    with TeamDag(name):
        ApplyRulesOperator(
            task_id="vote",
            messages=f"store://inbox/llm/{messages}.parquet",
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

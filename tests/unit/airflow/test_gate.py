"""The gate: what a team's DAG may not do, and that Airflow asks it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from kommuna.airflow.gate import DagFacts, TaskFacts, judge
from kommuna.spec.team import Platform

PLATFORM = Platform.model_validate(
    {"teams": {"support": {"bundle": "a", "pools": {"default": 4, "gpu": 1}}, "fraud": {"bundle": "b"}}}
)


def words(dag_id: str = "support__d", **task: object) -> list[str]:
    fields = {"task_id": "t", "pool": "support__default"} | task
    return [v.what for v in judge(DagFacts(dag_id, [TaskFacts(**fields)]), team="support", platform=PLATFORM)]  # type: ignore[arg-type]


def test_a_dag_that_keeps_to_its_team_passes() -> None:
    assert words() == []
    assert words(pool="support__gpu", priority_weight=10) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dag_id": "d"}, "DAG 'd' lacks the prefix of team 'support'"),
        ({"dag_id": "fraud__d"}, "DAG 'fraud__d' has the prefix of team 'fraud', but belongs to team 'support'"),
        ({"pool": "fraud__default"}, "task 't' uses the pool 'fraud__default', which is not team support's"),
        ({"pool": "default_pool"}, "task 't' uses the pool 'default_pool', which is not team support's"),
        ({"executor": "LocalExecutor"}, "task 't' names the executor 'LocalExecutor'"),
        ({"priority_weight": 1000}, "task 't' has the priority_weight 1000"),
        ({"executor_config": {"pod_override": 1}}, "task 't' sets executor_config (pod_override)"),
    ],
)  # fmt: skip
def test_what_would_touch_others_is_refused(fields: dict[str, object], message: str) -> None:
    (found,) = words(**fields)  # type: ignore[arg-type]
    assert found.startswith(message)


def test_a_dag_of_too_many_tasks_is_refused() -> None:
    tasks = [TaskFacts(f"t{i}", "support__default") for i in range(501)]
    (found,) = judge(DagFacts("support__d", tasks), team="support", platform=PLATFORM)
    assert found.what == "DAG 'support__d' has 501 tasks"


def test_airflows_own_policy_refuses_the_same_with_the_same_words(
    load: Callable[..., ModuleType], platform: Path
) -> None:
    from airflow.exceptions import AirflowClusterPolicyViolation

    from kommuna.airflow.policies import dag_policy

    dag = load(
        'from airflow.sdk import DAG\nfrom airflow.providers.standard.operators.empty import EmptyOperator\nwith DAG("plain") as dag:\n    EmptyOperator(task_id="t")\n'
    ).dag
    with pytest.raises(AirflowClusterPolicyViolation) as error:
        dag_policy(dag)
    assert "DAG 'plain' lacks the prefix of team 'support'" in str(error.value)
    assert "task 't' uses the pool 'default_pool'" in str(error.value)

"""Airflow's policies: refuse at parse time, and again in the worker, what the gate would refuse.

Loaded by Airflow through the `airflow.policy` entry point while it starts, so nothing of Airflow is imported at the
top but the hook's marker.
"""

from __future__ import annotations

from typing import Any

from airflow.policies import hookimpl

from kommuna.airflow.gate import DagFacts, TaskFacts, judge
from kommuna.errors import KommunaError
from kommuna.spec.installation import place_of


@hookimpl
def dag_policy(dag: Any) -> None:
    """Refuses a DAG that breaks the platform's rules, with the words of `kommuna check`."""
    from airflow.exceptions import AirflowClusterPolicyViolation

    try:
        place = place_of(dag.fileloc)
    except KommunaError as error:
        raise AirflowClusterPolicyViolation(str(error)) from None
    violations = judge(facts(dag), team=place.team, platform=place.installation.platform)
    if violations:
        raise AirflowClusterPolicyViolation("\n".join(str(violation) for violation in violations))


def facts(dag: Any) -> DagFacts:
    """The facts of an Airflow DAG."""
    return DagFacts(
        dag.dag_id,
        [
            TaskFacts(
                task_id=task.task_id,
                pool=task.pool,
                executor=getattr(task, "executor", None),
                priority_weight=task.priority_weight or 1,
                executor_config=getattr(task, "executor_config", None) or {},
            )
            for task in dag.tasks
        ],
    )

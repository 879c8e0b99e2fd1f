"""The gate: what a team's DAG may be. One judgement, from plain facts, for policies, checks and the relay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kommuna.errors import nearest
from kommuna.spec.names import owner_of
from kommuna.spec.team import Platform

MAX_TASKS = 500
MAX_PRIORITY = 10


@dataclass(frozen=True)
class TaskFacts:
    """What the gate looks at in a task."""

    task_id: str
    pool: str
    executor: str | None = None
    priority_weight: int = 1
    executor_config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DagFacts:
    """What the gate looks at in a DAG."""

    dag_id: str
    tasks: Sequence[TaskFacts]


@dataclass(frozen=True)
class Violation:
    """One thing that a team's DAG may not do, and how to mend it."""

    what: str
    mend: str
    task_id: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.mend}"


def judge(dag: DagFacts, *, team: str, platform: Platform) -> list[Violation]:
    """Everything that keeps a team's DAG out.

    Args:
        dag: the DAG's facts.
        team: the owner of the bundle that the DAG came from.
        platform: every team, with its pools.
    """
    return [
        *_judge_id(dag.dag_id, team),
        *(v for task in dag.tasks for v in _judge_task(task, team, platform)),
        *_judge_size(dag),
    ]


def _judge_id(dag_id: str, team: str) -> Iterable[Violation]:
    owner = owner_of(dag_id)
    if owner is None:
        yield Violation(
            f"DAG '{dag_id}' lacks the prefix of team '{team}'",
            f"use TeamDag, which adds it, or name it '{team}__{dag_id}'",
        )
    elif owner != team:
        yield Violation(
            f"DAG '{dag_id}' has the prefix of team '{owner}', but belongs to team '{team}'",
            f"name it '{team}__{dag_id.partition('__')[2]}'",
        )


def _judge_task(task: TaskFacts, team: str, platform: Platform) -> Iterable[Violation]:
    pools = [platform.pool(team, name) for name in platform.teams[team].pools]
    if task.pool not in pools:
        yield Violation(
            f"task '{task.task_id}' uses the pool '{task.pool}', which is not team {team}'s{nearest(task.pool, pools)}",
            f"the team's pools are {', '.join(pools)}; a task in another pool would wait for ever",
            task.task_id,
        )
    if task.executor:
        yield Violation(
            f"task '{task.task_id}' names the executor '{task.executor}'",
            "drop `executor`: the platform runs each team's tasks on the team's own",
            task.task_id,
        )
    if not 1 <= task.priority_weight <= MAX_PRIORITY:
        yield Violation(
            f"task '{task.task_id}' has the priority_weight {task.priority_weight}",
            f"keep it between 1 and {MAX_PRIORITY}: all teams share one scheduler",
            task.task_id,
        )
    if task.executor_config:
        yield Violation(
            f"task '{task.task_id}' sets executor_config ({', '.join(task.executor_config)})",
            "drop it and use the step's `step_resources`",
            task.task_id,
        )


def _judge_size(dag: DagFacts) -> Iterable[Violation]:
    if len(dag.tasks) > MAX_TASKS:
        yield Violation(f"DAG '{dag.dag_id}' has {len(dag.tasks)} tasks", f"keep it to {MAX_TASKS}, or split it")

"""Loads a DAG file and runs one of its DAGs by `dag.test()`. It imports Airflow, so import it after `set_up`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow.exceptions import AirflowClusterPolicyViolation
from airflow.sdk.exceptions import ParamValidationError

from kommuna.cli.check.advice import explain
from kommuna.cli.check.process.limits import Limits
from kommuna.cli.check.process.loading import load
from kommuna.errors import SpecError, nearest
from kommuna.spec.installation import Place
from kommuna.spec.names import SEPARATOR


@dataclass(frozen=True)
class EndedTask:
    """How a task ended. `task` is `clean`, or `clean[2]` for a mapped task."""

    task: str
    state: str
    seconds: float | None


@dataclass(frozen=True)
class EndedRun:
    """How a run ended."""

    dag_id: str
    state: str
    tasks: Sequence[EndedTask]


def loaded(path: Path, place: Place) -> tuple[Any, ...]:
    """Loads the DAGs of a file.

    Raises:
        SpecError: it cannot be imported; the message is that of `kommuna check`.
    """
    found = load(path, seconds=0)  # no time limit: a person may be at a breakpoint
    if found.error is not None:
        line, what, fix = explain(found.error, path, place.bundle, Limits())
        raise SpecError(what, where=f"{path}:{line}", fix=fix)
    return found.dags


def chosen(dags: Sequence[Any], wanted: str, path: Path, place: Place) -> Any:
    """Finds the DAG to run.

    Args:
        dags: the DAGs of the file.
        wanted: the DAG's id, with or without the team's prefix; empty if the file has only one.
        path: the file, for error messages.
        place: the file's team.

    Raises:
        SpecError: there is no such DAG, or there are several and none is named.
    """
    by_id = {dag.dag_id: dag for dag in dags}
    if not by_id:
        raise SpecError(
            "the file defines no DAG", where=str(path), fix="see `kommuna check` for the problems of a bundle"
        )
    names = ", ".join(sorted(by_id))
    if wanted:
        dag = by_id.get(wanted) or by_id.get(f"{place.team}{SEPARATOR}{wanted}")
        if dag is None:
            close = nearest(wanted, [*by_id, *(name.partition(SEPARATOR)[2] for name in by_id)])
            raise SpecError(f"no DAG '{wanted}' in the file{close}", where=str(path), fix=f"it has: {names}")
        return dag
    if len(by_id) > 1:
        raise SpecError(f"the file defines {len(by_id)} DAGs: {names}", where=str(path), fix="name one with --dag")
    return next(iter(by_id.values()))


def part(dag: Any, task_id: str, *, alone: bool) -> Any:
    """Reduces a DAG to a task and its upstream tasks, or to the task alone.

    Args:
        dag: the DAG; it is changed.
        task_id: the task's id.
        alone: whether its upstream tasks are left out.

    Raises:
        SpecError: there is no such task.
    """
    if task_id not in dag.task_ids:
        raise SpecError(
            f"no task '{task_id}' in {dag.dag_id}{nearest(task_id, dag.task_ids)}",
            fix=f"its tasks are: {', '.join(dag.task_ids)}",
        )
    _keep_only(dag, set(dag.partial_subset([task_id], include_upstream=not alone).task_ids))
    return dag


def _keep_only(dag: Any, kept: set[str]) -> None:
    """Removes all other tasks from a DAG. Airflow's own subset is a deep copy, in which a mapped `@task` fails."""
    for task_id in set(dag.task_dict) - kept:
        del dag.task_dict[task_id]
    _prune(dag.task_group, kept)
    groups = {group for group in dag.task_group.get_task_group_dict() if group is not None}
    for one in (*dag.tasks, *dag.task_group.get_task_group_dict().values()):
        for name, left in (
            ("upstream_task_ids", kept), ("downstream_task_ids", kept),
            ("upstream_group_ids", groups), ("downstream_group_ids", groups),
        ):  # fmt: skip
            if hasattr(one, name):
                getattr(one, name).intersection_update(left)


def _prune(group: Any, kept: set[str]) -> None:
    for name, child in list(group.children.items()):
        if hasattr(child, "children"):
            _prune(child, kept)
        if name not in kept and not getattr(child, "children", None):
            del group.children[name]


def run(dag: Any, params: dict[str, Any], logical_date: datetime | None) -> EndedRun:
    """Runs a DAG to its end.

    Args:
        dag: the DAG, with the tasks that shall run.
        params: the run's parameters.
        logical_date: the date that `{{ ds }}` is derived from; None for a run without one.

    Raises:
        SpecError: the platform refuses the DAG, or a parameter is invalid.
    """
    try:
        dag_run = dag.test(logical_date=logical_date, run_conf=params)
    except AirflowClusterPolicyViolation as violation:
        raise SpecError(str(violation), where=dag.fileloc) from None
    except ParamValidationError as error:
        raise SpecError(f"invalid parameter: {error}", where=dag.dag_id, fix="see --param and --conf") from None
    tasks = [
        EndedTask(
            task=instance.task_id + (f"[{instance.map_index}]" if instance.map_index >= 0 else ""),
            state=str(instance.state or "not run"),
            seconds=instance.duration,
        )
        for instance in sorted(dag_run.get_task_instances(), key=lambda i: (i.start_date is None, i.start_date))
    ]
    return EndedRun(dag.dag_id, str(dag_run.state), tasks)

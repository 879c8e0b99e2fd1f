"""Airflow's policies: refuse at parse time, and again in the worker, what the gate would refuse.

Loaded by Airflow through the `airflow.policy` entry point while it starts, so nothing of Airflow is imported at the
top but the hook's marker.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from airflow.policies import hookimpl

from kommuna.airflow.gate import AssetFacts, DagFacts, TaskFacts, judge
from kommuna.errors import KommunaError
from kommuna.spec.installation import Place, place_of

_A_DAY = datetime(2025, 1, 1)  # to which a delta, be it of days or of months, is added


@hookimpl
def dag_policy(dag: Any) -> None:
    """Refuses a DAG that breaks the platform's rules, with the words of `kommuna check`."""
    from airflow.exceptions import AirflowClusterPolicyViolation

    try:
        place = place_of(dag.fileloc)
    except KommunaError as error:
        raise AirflowClusterPolicyViolation(str(error)) from None
    name_pools(dag, place)
    violations = judge(facts(dag), team=place.team, platform=place.installation.platform)
    if violations:
        raise AirflowClusterPolicyViolation("\n".join(str(violation) for violation in violations))


def name_pools(dag: Any, place: Place) -> None:
    """Gives the team's prefix to each pool that a task names as kommuna.yaml does: `pool="slow"`."""
    platform = place.installation.platform
    for task in dag.tasks:
        if task.pool in place.spec.pools:
            options = getattr(task, "partial_kwargs", None)
            if options is None:
                task.pool = platform.pool(place.team, task.pool)
            else:  # a mapped task
                options["pool"] = platform.pool(place.team, task.pool)


def facts(dag: Any) -> DagFacts:
    """The facts of an Airflow DAG: one that a file made, or one that was read back from its serialised form."""
    timetables = list(_timetables(dag.timetable))
    deltas = [delta for t in timetables if (delta := _field(t, "delta")) is not None]
    declared = [
        *(asset for t in timetables for asset in _assets(getattr(t, "asset_condition", None))),
        *(asset for task in dag.tasks for thing in (*task.inlets, *task.outlets) for asset in _assets(thing)),
    ]
    return DagFacts(
        dag.dag_id,
        [_task_facts(task) for task in dag.tasks],
        timetables=[f"{type(timetable).__module__}.{type(timetable).__qualname__}" for timetable in timetables],
        interval=min(((_A_DAY + delta - _A_DAY).total_seconds() for delta in deltas), default=None),
        cron=[cron for t in timetables if isinstance(cron := _field(t, "expression"), str)],
        deadlines=len(dag.deadline) if isinstance(dag.deadline, list) else int(bool(dag.deadline)),
        assets=list(dict.fromkeys(declared)),
        links={str(owner): str(link) for owner, link in (dag.owner_links or {}).items()},
        tags=sorted(str(tag) for tag in dag.tags or ()),
        roles=sorted(dag.access_control or ()),
        names=[str(name) for name in (dag.dag_display_name, dag.owner) if name],
        timeout=dag.dagrun_timeout.total_seconds() if dag.dagrun_timeout else None,
    )


def _task_facts(task: Any) -> TaskFacts:
    trigger = getattr(task, "start_trigger_args", None)
    from_trigger = getattr(task, "start_from_trigger", False) is True
    delays = (task.execution_timeout, task.retry_delay, task.max_retry_delay)
    return TaskFacts(
        task_id=task.task_id,
        pool=task.pool,
        executor=getattr(task, "executor", None),
        priority_weight=task.priority_weight or 1,
        executor_config=getattr(task, "executor_config", None) or {},
        pool_slots=task.pool_slots,
        retries=task.retries or 0,
        trigger=str(getattr(trigger, "trigger_cls", "")) if from_trigger else None,
        names=[str(name) for name in (task.queue, task.task_type, task.operator_name, task.task_display_name) if name],
        delays=[delay.total_seconds() for delay in delays if isinstance(delay, timedelta)],
    )


def _timetables(timetable: Any) -> Iterator[Any]:
    """A timetable, and those that it is made of."""
    yield timetable
    for inner in (_field(timetable, "timetable"), *(_field(timetable, "timetables") or ())):
        if inner is not None:
            yield from _timetables(inner)


def _field(timetable: Any, name: str) -> Any:
    """A field that Airflow's two families of timetables name with and without an underscore."""
    found = getattr(timetable, f"_{name}", None)
    return getattr(timetable, name, None) if found is None else found


def _assets(thing: Any) -> Iterator[AssetFacts]:
    """Assets and aliases that stand in an inlet, an outlet or a condition; a reference declares none."""
    for part in getattr(thing, "objects", ()):
        yield from _assets(part)
    name, uri = getattr(thing, "name", None), getattr(thing, "uri", None)
    is_alias = uri is None and hasattr(thing, "group")
    if isinstance(name, str) and (isinstance(uri, str) or is_alias):
        yield AssetFacts(name, uri or "", len(getattr(thing, "watchers", ())))

"""Airflow policies that apply the admission rules early: at parse time, and again in the worker.

Airflow loads this module through the `airflow.policy` entry point while it starts, so the module level imports nothing
of Airflow except the hook marker.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from airflow.policies import hookimpl

from kommuna.airflow.admission.rules import ABSOLUTE, AssetFacts, DagFacts, ParamFacts, TaskFacts, judge
from kommuna.airflow.dags import callers, seam
from kommuna.errors import KommunaError
from kommuna.spec.installation import Place, place_of
from kommuna.spec.names import owner_of, qualified

POD_DEADLINE_SECONDS = 30 * 24 * 3600

_NO_POOL = "default_pool"  # Airflow's pool for a task that sets none
_DAG_IDS = ("trigger_dag_id", "external_dag_id")
_A_DAY = datetime(2025, 1, 1)  # a delta of days or months is measured from here


seam.install()


@hookimpl
def dag_policy(dag: Any) -> None:
    """Refuses a DAG that breaks the platform's rules, with the same messages as `kommuna check`."""
    from airflow.exceptions import AirflowClusterPolicyViolation

    from kommuna.airflow.operators.params import default_mistakes

    try:
        place = place_of(dag.fileloc)
    except KommunaError as error:
        raise AirflowClusterPolicyViolation(str(error)) from None
    complete(dag, place)
    callers.remember(place)
    violations = [
        *judge(facts(dag), team=place.team, platform=place.installation.platform),
        *default_mistakes(dag, place.bundle).values(),
    ]
    if violations:
        raise AirflowClusterPolicyViolation("\n".join(str(violation) for violation in violations))


def complete(dag: Any, place: Place) -> None:
    """Fills in what an ordinary DAG file leaves out of its tasks: the team's pool, weight rules, prefixes of DAG ids.

    A pool may be named as in kommuna.yaml (`pool="slow"`). A task without a pool gets the team's default pool.
    Airflow's default weight rule, `downstream`, becomes `absolute`: otherwise the tasks of a long DAG would go ahead of
    every other team's. An id of another DAG (`trigger_dag_id="helpers"`) means one of the team's own, unless it has
    another team's prefix.
    """
    platform = place.installation.platform
    for task in dag.tasks:
        pool = "default" if task.pool == _NO_POOL else task.pool
        if pool in place.spec.pools:
            _set(task, "pool", platform.pool(place.team, pool))
        if _weight_rule(task) == "downstream":
            _set(task, "weight_rule", ABSOLUTE)
        for name in _DAG_IDS:
            dag_id = getattr(task, "partial_kwargs", vars(task)).get(name)
            if (
                isinstance(dag_id, str)
                and dag_id
                and "{{" not in dag_id
                and owner_of(dag_id) not in platform.team_names
            ):
                _set(task, name, qualified(place.team, dag_id, teams=platform.team_names))


def _set(task: Any, name: str, value: str) -> None:
    options = getattr(task, "partial_kwargs", None)  # of a mapped task
    if options is None:
        setattr(task, name, value)
    else:
        options[name] = value


@hookimpl
def pod_mutation_hook(pod: Any) -> None:
    """Gives a pod without a deadline a distant one, so that the team's quota counts it and the parser's does not."""
    if pod.spec.active_deadline_seconds is None:
        pod.spec.active_deadline_seconds = POD_DEADLINE_SECONDS


def facts(dag: Any) -> DagFacts:
    """Collects the facts that admission needs from a DAG, whether a file made it or it was deserialised."""
    timetables = list(_timetables(dag.timetable))
    deltas = [delta for t in timetables if (delta := _field(t, "delta")) is not None]
    declared = [
        *(asset for t in timetables for asset in _assets(getattr(t, "asset_condition", None))),
        *(
            asset
            for task in dag.tasks
            for thing in (*(task.inlets or ()), *(task.outlets or ()))
            for asset in _assets(thing)
        ),
    ]
    return DagFacts(
        dag.dag_id,
        [_task_facts(task) for task in dag.tasks],
        timetables=[f"{type(timetable).__module__}.{type(timetable).__qualname__}" for timetable in timetables],
        interval=min(((_A_DAY + delta - _A_DAY).total_seconds() for delta in deltas), default=None),
        cron=[cron for t in timetables if isinstance(cron := _field(t, "expression"), str)],
        deadlines=len(dag.deadline) if isinstance(dag.deadline, list) else int(bool(dag.deadline)),
        assets=list(dict.fromkeys(declared)),
        written=list(
            dict.fromkeys(r for task in dag.tasks for outlet in task.outlets or () for r in _references(outlet))
        ),
        links={str(owner): str(link) for owner, link in (dag.owner_links or {}).items()},
        tags=sorted(str(tag) for tag in dag.tags or ()),
        roles=sorted(dag.access_control or ()),
        names=[str(name) for name in (dag.dag_display_name, dag.owner) if name],
        timeout=dag.dagrun_timeout.total_seconds() if dag.dagrun_timeout else None,
        max_active_runs=dag.max_active_runs,
        max_active_tasks=dag.max_active_tasks,
        params=list(_params(dag.params)),
    )


def _task_facts(task: Any) -> TaskFacts:
    trigger = getattr(task, "start_trigger_args", None)
    from_trigger = getattr(task, "start_from_trigger", False) is True
    delays = (task.execution_timeout, task.retry_delay, task.max_retry_delay)
    return TaskFacts(
        task_id=str(task.task_id),
        pool=task.pool,
        executor=getattr(task, "executor", None),
        priority_weight=task.priority_weight or 1,
        weight_rule=_weight_rule(task),
        executor_config=getattr(task, "executor_config", None) or {},
        pool_slots=task.pool_slots,
        retries=task.retries or 0,
        trigger=str(getattr(trigger, "trigger_cls", "")) if from_trigger else None,
        names=[str(name) for name in (task.queue, task.task_type, task.operator_name, task.task_display_name) if name],
        delays=[delay.total_seconds() for delay in delays if isinstance(delay, timedelta)],
        params=list(_params(task.params)),
    )


def _params(params: Any) -> Iterator[ParamFacts]:
    """Yields params. A value that is none has no schema."""
    for name in params or ():
        # As an item, a param without a default is an error.
        param = params.get_param(name) if hasattr(params, "get_param") else params[name]
        yield ParamFacts(str(name), getattr(param, "schema", {}), getattr(param, "value", param))


def _weight_rule(task: Any) -> str:
    """The name of a task's weight rule; the class path of one that is not Airflow's."""
    from airflow.task.priority_strategy import get_airflow_priority_weight_strategies

    rule = task.weight_rule
    if isinstance(rule, str):
        return str(getattr(rule, "value", rule))
    names = {strategy: str(getattr(n, "value", n)) for n, strategy in get_airflow_priority_weight_strategies().items()}
    return names.get(type(rule), f"{type(rule).__module__}.{type(rule).__qualname__}")  # short names come last


def _references(outlet: Any) -> Iterator[str]:
    """Yields the names and addresses of the assets that an outlet refers to without declaring them."""
    for part in getattr(outlet, "objects", ()):
        yield from _references(part)
    name, uri = getattr(outlet, "name", None), getattr(outlet, "uri", None)
    if (name is None) != (uri is None) and not hasattr(outlet, "group"):
        yield str(name if uri is None else uri)


def _timetables(timetable: Any) -> Iterator[Any]:
    """Yields a timetable and the timetables inside it."""
    yield timetable
    for inner in (_field(timetable, "timetable"), *(_field(timetable, "timetables") or ())):
        if inner is not None:
            yield from _timetables(inner)


def _field(timetable: Any, name: str) -> Any:
    """Reads an attribute that Airflow's timetables name with or without a leading underscore."""
    found = getattr(timetable, f"_{name}", None)
    return getattr(timetable, name, None) if found is None else found


def _assets(thing: Any) -> Iterator[AssetFacts]:
    """Yields the assets and aliases of an inlet, an outlet or a condition. A reference declares none."""
    for part in getattr(thing, "objects", ()):
        yield from _assets(part)
    name, uri = getattr(thing, "name", None), getattr(thing, "uri", None)
    is_alias = uri is None and hasattr(thing, "group")
    if isinstance(name, str) and (isinstance(uri, str) or is_alias):
        access = getattr(thing, "access_control", None)
        consumers = (
            access.get("consumer_teams") if isinstance(access, dict) else getattr(access, "consumer_teams", None)
        )
        yield AssetFacts(name, uri or "", len(getattr(thing, "watchers", ())), tuple(consumers or ()))

"""The admission rules for a team's DAG. Policies, `kommuna check` and the relay apply the same rules to plain facts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kommuna.errors import SpecError, nearest
from kommuna.spec.names import owner_of, qualified
from kommuna.spec.resources import Resources, cpu_cores, memory_bytes
from kommuna.spec.team import Platform

MAX_TASKS = 500
MAX_PRIORITY = 10
MAX_ACTIVE_RUNS = 100  # of a DAG
MAX_RETRIES = 10
MAX_ID = 250  # characters: the width of the database's columns
MAX_TAG = 100
SHORTEST_INTERVAL = 60  # seconds between two runs
LONGEST_DELAY = 366 * 24 * 3600  # seconds; a date beyond the calendar stops the scheduler, for all teams
_TIMETABLE = re.compile(r"^airflow\.(sdk\.definitions\.)?timetables\.[a-z_]+\.[A-Z]\w*$")
_LINK = re.compile(r"^(https?://|mailto:)")
_KEY = re.compile(r"[\w.-]+")  # Airflow's pattern of ids, which a DAG that was not made by Airflow's classes may break
MAX_PARAMS = 5_000  # values in the params of a DAG or a task: each value is compared with each rule of its schema
# Keywords of a schema that load an address, or whose work grows without bound.
_UNBOUNDED = {
    "$schema", "$ref", "$dynamicRef", "$recursiveRef", "pattern", "patternProperties", "unevaluatedItems",
    "unevaluatedProperties", "uniqueItems",
}  # fmt: skip
ABSOLUTE = "absolute"  # the weight rule that takes each task's own priority_weight


@dataclass(frozen=True)
class ParamFacts:
    """What admission looks at in a param of a DAG or a task."""

    name: str
    schema: Mapping[str, Any]
    default: Any = None


@dataclass(frozen=True)
class TaskFacts:
    """What admission looks at in a task.

    Attributes:
        task_id: the task's id.
        pool: the id of its pool.
        executor: the executor that it names, if any.
        priority_weight: its weight in the scheduler's queue.
        weight_rule: how the scheduler combines its weight with those of other tasks.
        executor_config: settings for the executor; a step's resources.
        pool_slots: slots of the pool that it takes.
        retries: how often it is retried.
        trigger: class path of the trigger that it starts from, if any.
        names: texts that the scheduler writes into database columns: queue, operator, display name.
        delays: its timeouts and retry delays, in seconds.
        params: its params, the DAG's among them.
    """

    task_id: str
    pool: str
    executor: str | None = None
    priority_weight: int = 1
    weight_rule: str = ABSOLUTE
    executor_config: Mapping[str, Any] = field(default_factory=dict)
    pool_slots: int = 1
    retries: int = 0
    trigger: str | None = None
    names: Sequence[str] = ()
    delays: Sequence[float] = ()
    params: Sequence[ParamFacts] = ()


@dataclass(frozen=True)
class AssetFacts:
    """What admission looks at in an asset that a DAG declares. An alias has no URI."""

    name: str
    uri: str = ""
    watchers: int = 0
    consumers: tuple[str, ...] = ()  # teams that it is published to


@dataclass(frozen=True)
class DagFacts:
    """What admission looks at in a DAG.

    Attributes:
        dag_id: its id, with the team's prefix.
        tasks: its tasks.
        timetables: class paths of its timetable and of those inside it.
        interval: seconds between two runs, where the timetable has a fixed interval.
        cron: its cron expressions.
        deadlines: the number of its deadlines.
        assets: the assets that it declares as schedule, inlet or outlet.
        written: names and addresses of the assets that its tasks refer to as outlets, without declaring them.
        links: addresses by owner.
        tags: its tags.
        roles: roles that it grants rights to.
        names: texts that are written into database columns: display name, owners, asset groups.
        timeout: the longest time of a run, in seconds.
        max_active_runs: how many of its runs may be active at the same time; with `catchup` that many start at once.
        max_active_tasks: how many tasks of a run may be active at the same time.
        params: its params.
    """

    dag_id: str
    tasks: Sequence[TaskFacts]
    timetables: Sequence[str] = ()
    interval: float | None = None
    cron: Sequence[str] = ()
    deadlines: int = 0
    assets: Sequence[AssetFacts] = ()
    written: Sequence[str] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    tags: Sequence[str] = ()
    roles: Sequence[str] = ()
    names: Sequence[str] = ()
    timeout: float | None = None
    max_active_runs: int = 1
    max_active_tasks: int = 1
    params: Sequence[ParamFacts] = ()


@dataclass(frozen=True)
class Violation:
    """One rule that a team's DAG breaks, and how to fix it."""

    what: str
    fix: str
    task_id: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.fix}"


def judge(dag: DagFacts, *, team: str, platform: Platform) -> list[Violation]:
    """Returns every rule that a team's DAG breaks; an empty list means that the DAG is admitted.

    Args:
        dag: what the rules look at.
        team: the owner of the bundle that the DAG came from.
        platform: all teams, with their pools and quotas.
    """
    return [
        *_judge_id(dag.dag_id, team, platform),
        *(v for task in dag.tasks for v in _judge_task(task, team, platform)),
        *_judge_schedule(dag),
        *_judge_reach(dag),
        *(v for asset in dag.assets for v in _judge_asset(asset, team, platform)),
        *_judge_written(dag, team),
        *_judge_params(dag),
        *_judge_size(dag),
    ]


def _judge_id(dag_id: str, team: str, platform: Platform) -> Iterable[Violation]:
    if not _KEY.fullmatch(dag_id):
        yield _bad_id("DAG id", dag_id)
        return
    try:
        qualified(team, dag_id.removeprefix(f"{team}__"), teams=platform.team_names)
    except SpecError as error:
        yield Violation(f"DAG {error.what}", error.fix)
        return
    if owner_of(dag_id) != team:
        yield Violation(
            f"DAG '{dag_id}' lacks the prefix of team '{team}'",
            f"use TeamDag, which adds it, or name it '{team}__{dag_id}'",
        )


def _bad_id(what: str, text: str, task_id: str = "") -> Violation:
    return Violation(
        f"the {what} {text[:60]!r} has other characters than letters, digits, '-', '_' and '.'",
        "use these characters only",
        task_id,
    )


def _judge_task(task: TaskFacts, team: str, platform: Platform) -> Iterable[Violation]:
    if not _KEY.fullmatch(task.task_id):
        yield _bad_id("task id", task.task_id, task.task_id)
    pools = [platform.pool(team, name) for name in platform.teams[team].pools]
    if task.pool not in pools:
        yield Violation(
            f"task '{task.task_id}' uses the pool '{task.pool}', which does not belong to team '{team}'"
            f"{nearest(task.pool, pools)}",
            f"the team's pools are {', '.join(pools)}; a task in another pool would wait forever",
            task.task_id,
        )
    if task.executor:
        yield Violation(
            f"task '{task.task_id}' names the executor '{task.executor}'",
            "drop `executor`: the platform runs each team's tasks on the team's own executor",
            task.task_id,
        )
    if not 1 <= task.priority_weight <= MAX_PRIORITY:
        yield Violation(
            f"task '{task.task_id}' has the priority_weight {task.priority_weight}",
            f"keep it between 1 and {MAX_PRIORITY}: all teams share one scheduler",
            task.task_id,
        )
    if task.weight_rule != ABSOLUTE:
        yield Violation(
            f"task '{task.task_id}' has the weight_rule '{task.weight_rule}'",
            "drop weight_rule: it adds up the weights of many tasks, and all teams share one scheduler",
            task.task_id,
        )
    yield from _judge_config(task, team, platform)
    if not 1 <= task.pool_slots <= _slots(task.pool, team, platform):
        yield Violation(
            f"task '{task.task_id}' takes {task.pool_slots} slots of the pool '{task.pool}'",
            f"keep pool_slots between 1 and the pool's {_slots(task.pool, team, platform)}",
            task.task_id,
        )
    if not 0 <= task.retries <= MAX_RETRIES:
        yield Violation(
            f"task '{task.task_id}' has {task.retries} retries",
            f"keep retries between 0 and {MAX_RETRIES}",
            task.task_id,
        )
    if any(not 0 <= delay <= LONGEST_DELAY for delay in task.delays):
        yield Violation(
            f"task '{task.task_id}' has a timeout or a retry delay of {max(task.delays, key=abs):g} s",
            f"keep it between 0 and {LONGEST_DELAY} s",
            task.task_id,
        )
    if task.trigger is not None:
        yield Violation(
            f"task '{task.task_id}' starts from a trigger ({task.trigger})",
            "drop start_from_trigger: triggers run in the control plane, where team code does not run",
            task.task_id,
        )


def _slots(pool: str, team: str, platform: Platform) -> int:
    """Returns the slots of a team's pool. For another pool there is no limit here: it is refused by its name."""
    sizes = {platform.pool(team, name): slots for name, slots in platform.teams[team].pool_slots.items()}
    return sizes.get(pool, MAX_TASKS)


def _judge_config(task: TaskFacts, team: str, platform: Platform) -> Iterable[Violation]:
    """An executor_config may hold a step's resources, within the team's quota, and nothing else."""
    fix = (
        "a step has `step_resources`; an ordinary task may set"
        ' executor_config={"resources": {"cpu": "1", "memory": "2Gi"}}, nothing else'
    )
    if set(task.executor_config) - {"resources"}:
        names = ", ".join(task.executor_config)
        yield Violation(f"task '{task.task_id}' sets executor_config ({names})", fix, task.task_id)
        return
    try:
        requested = Resources.read(dict(task.executor_config.get("resources") or {}), where="")
    except (SpecError, TypeError, ValueError):
        yield Violation(f"task '{task.task_id}' sets executor_config (resources)", fix, task.task_id)
        return
    quota = platform.teams[team].quota
    if "resources" in task.executor_config and (
        memory_bytes(requested.memory) > memory_bytes(quota.memory) or cpu_cores(requested.cpu) > cpu_cores(quota.cpu)
    ):
        yield Violation(
            f"task '{task.task_id}' requests {requested.cpu} cores and {requested.memory}, more than the team's quota"
            f" of {quota.cpu} cores and {quota.memory}",
            "request less in the step's `step_resources`: its pod would wait forever",
            task.task_id,
        )


def _judge_schedule(dag: DagFacts) -> Iterable[Violation]:
    for path in dag.timetables:
        if not _TIMETABLE.match(path):
            yield Violation(
                f"DAG '{dag.dag_id}' has the timetable {path}",
                "use one of Airflow's timetables: the scheduler runs no team code",
            )
        elif path.endswith(".ContinuousTimetable"):
            yield Violation(
                f"DAG '{dag.dag_id}' runs again as soon as it ends (@continuous)",
                f"leave at least {SHORTEST_INTERVAL} s between two runs: schedule='* * * * *' is every minute",
            )
    often = [expression for expression in dag.cron if len(expression.split()) > 5]
    if often:
        yield Violation(
            f"DAG '{dag.dag_id}' is scheduled by the second: '{often[0]}'",
            "use five fields: minutes are the finest unit",
        )
    if dag.interval is not None and dag.interval < SHORTEST_INTERVAL:
        yield Violation(
            f"DAG '{dag.dag_id}' runs every {dag.interval:g} s",
            f"leave at least {SHORTEST_INTERVAL} s between two runs",
        )
    if dag.timeout is not None and not 0 < dag.timeout <= LONGEST_DELAY:
        yield Violation(
            f"DAG '{dag.dag_id}' has a dagrun_timeout of {dag.timeout:g} s", f"keep it between 0 and {LONGEST_DELAY} s"
        )
    if dag.deadlines:
        yield Violation(
            f"DAG '{dag.dag_id}' has a deadline",
            "use dagrun_timeout: a deadline's callback runs in the control plane, where team code does not run",
        )


def _judge_reach(dag: DagFacts) -> Iterable[Violation]:
    """A DAG sets no access rights, which follow the team, and its links must not run code in a browser."""
    if dag.roles:
        yield Violation(
            f"DAG '{dag.dag_id}' grants rights to {', '.join(dag.roles)}", "drop access_control: rights follow the team"
        )
    for owner, link in dag.links.items():
        if not _LINK.match(link):
            yield Violation(f"DAG '{dag.dag_id}' links its owner '{owner}' to '{link[:60]}'", "use https:// or mailto:")


def address_parts(address: str) -> set[str]:
    """Splits an asset's address at its separators. A team whose name is one of the parts owns the asset.

    >>> sorted(address_parts("s3://bucket/x?team=support"))
    ['bucket', 's3', 'support', 'team', 'x']
    """
    return set(re.split(r"[/:?&=]+", address))


def address_fits(name: str, uri: str, team: str) -> bool:
    """Whether a team's asset may have an address: none, its name, or one that contains the team.

    Args:
        name: the asset's name.
        uri: its address; may be empty.
        team: the team that owns it.
    """
    return not uri or uri.rstrip("/") == name or team in address_parts(uri)


def _judge_asset(asset: AssetFacts, team: str, platform: Platform) -> Iterable[Violation]:
    if asset.watchers:
        yield Violation(
            f"asset '{asset.name}' has a watcher",
            "drop it: a watcher's trigger runs in the control plane, where team code does not run",
        )
    for consumer in asset.consumers:
        if consumer not in platform.team_names:
            yield Violation(
                f"asset '{asset.name}' is published to '{consumer}', which is not a team"
                f"{nearest(consumer, platform.team_names)}",
                f"name one of {', '.join(sorted(platform.team_names))}",
            )
    if owner_of(asset.name) != team:
        yield Violation(
            f"asset '{asset.name}' lacks the prefix of team '{team}'",
            f"name it '{team}__…'; if another team publishes the asset to yours, schedule on Asset.ref(name=…)",
        )
    elif not address_fits(asset.name, asset.uri, team):
        yield Violation(
            f"asset '{asset.name}' has the address '{asset.uri}'",
            f"leave it out, or use an address with the part '/{team}/': all teams share one space of addresses",
        )


def _judge_written(dag: DagFacts, team: str) -> Iterable[Violation]:
    """A reference as outlet writes an asset that is declared elsewhere; it must be the team's own."""
    for asset in dag.written:
        owner = owner_of(asset)  # of a name; an address has none
        if owner != team if owner is not None else team not in address_parts(asset):
            yield Violation(
                f"an outlet of DAG '{dag.dag_id}' refers to '{asset}', which does not belong to team '{team}'",
                "write the team's own assets only; another team's asset can be an inlet or the schedule",
            )


def _judge_params(dag: DagFacts) -> Iterable[Violation]:
    """Airflow's servers check values by the schemas of params: these must load nothing, and take little time."""
    groups = [
        (dag.params, f"DAG '{dag.dag_id}'", ""),
        *((t.params, f"task '{t.task_id}'", t.task_id) for t in dag.tasks),
    ]
    found: dict[str, Violation] = {}
    for params, where, task_id in groups:
        size = 0
        for param in params:
            size += sum(1 for _ in _parts(param.default))
            for part in _parts(param.schema):
                size += 1
                used = sorted(_UNBOUNDED & part.keys()) if isinstance(part, Mapping) else ()
                if used and param.name not in found:
                    found[param.name] = Violation(
                        f"the schema of the param '{param.name}' of {where} uses {', '.join(used)}",
                        "drop it, and check values in a task: the control plane would load the address, or search long",
                        task_id,
                    )
        if size > MAX_PARAMS:
            yield Violation(
                f"the params of {where} have {size:,} values in defaults and schemas",
                f"keep it to {MAX_PARAMS:,}: pass data as a file",
                task_id,
            )
    yield from found.values()


def _parts(value: Any) -> Iterable[Any]:
    """Yields a value and everything inside it."""
    left = [value]
    while left:
        part = left.pop()
        yield part
        if isinstance(part, Mapping):
            left += part.values()
        elif isinstance(part, list | tuple | set | frozenset):
            left += part


def _judge_size(dag: DagFacts) -> Iterable[Violation]:
    if not 1 <= dag.max_active_runs <= MAX_ACTIVE_RUNS:
        yield Violation(
            f"DAG '{dag.dag_id}' has max_active_runs={dag.max_active_runs}",
            f"keep it between 1 and {MAX_ACTIVE_RUNS}: a catch-up starts that many runs at once",
        )
    if not 1 <= dag.max_active_tasks <= MAX_TASKS:
        yield Violation(
            f"DAG '{dag.dag_id}' has max_active_tasks={dag.max_active_tasks}", f"keep it between 1 and {MAX_TASKS}"
        )
    if len(dag.tasks) > MAX_TASKS:
        yield Violation(f"DAG '{dag.dag_id}' has {len(dag.tasks)} tasks", f"keep it to {MAX_TASKS}, or split it")
    for name in dict.fromkeys(
        (dag.dag_id, *dag.names, *(n for task in dag.tasks for n in (task.task_id, *task.names)))
    ):
        if len(name) > MAX_ID:
            yield Violation(f"the name '{name[:40]}…' has {len(name)} characters", f"keep it to {MAX_ID}")
    for tag in dag.tags:
        if len(tag) > MAX_TAG:
            yield Violation(f"the tag '{tag[:40]}…' has {len(tag)} characters", f"keep it to {MAX_TAG}")

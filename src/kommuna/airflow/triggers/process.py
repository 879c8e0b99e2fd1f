"""Runs the triggers of deferred tasks: `python -m kommuna.airflow.triggers.process TEAM …`, in the control plane.

This is Airflow's triggerer with an allowlist: each trigger is checked before anything of it is imported or decoded, and
a refused trigger fails its task with the reason. Neither team code nor a class that it names is run.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import resource
import sys
import tempfile
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from multiprocessing import Process
from pathlib import Path
from typing import Any

import attrs
import structlog
from airflow.jobs.triggerer_job_runner import TriggererJobRunner, TriggerRunnerSupervisor
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.utils.state import TaskInstanceState
from sqlalchemy import Text, cast, func, select

from kommuna.airflow.triggers.allowed import MAX_ARGUMENTS, MAX_CARRIED, judge_carried, judge_trigger, too_large
from kommuna.errors import KommunaError, TeamMistake
from kommuna.spec.installation import find_installation

ALIVE = Path(tempfile.gettempdir(), "kommuna-triggerer.alive")
OPEN_FILES = 4096  # each trigger keeps its log open: Airflow's 1,000 triggers use up the usual limit of 1,024
log = structlog.get_logger(logger_name=__name__)


@attrs.define(kw_only=True)
class JudgingSupervisor(TriggerRunnerSupervisor):
    """The half of Airflow's triggerer with database access. It passes only checked triggers to the half that runs them.

    Args:
        teams: the teams whose triggers it runs.
    """

    teams: Collection[str]
    _refused: dict[int, str] = attrs.field(factory=dict, init=False)  # triggers that fail their tasks, and why
    _ignored: set[int] = attrs.field(factory=set, init=False)  # triggers that belong to no task

    def load_triggers(self) -> None:
        """Assigns the waiting triggers of all teams to this process. Airflow's own handles one team."""
        assert self.job is not None
        ids: set[int] = set()
        for team in self.teams:
            Trigger.assign_unassigned(self.job.id, self.capacity, self.health_check_threshold, team_name=team)
            ids.update(Trigger.ids_for_triggerer(self.job.id, team_name=team))
        self._ignored &= ids
        self.update_triggers(ids - self._ignored)

    def build_trigger_workloads(self, new_trigger_ids: set[int]) -> list[Any]:
        """Builds the workloads of new triggers. Triggers that are too large are refused unread."""
        from airflow.utils.session import create_session

        sizes = (
            select(Trigger.id, func.length(Trigger.encrypted_kwargs), func.length(cast(TaskInstance.next_kwargs, Text)))
            .outerjoin(TaskInstance, TaskInstance.trigger_id == Trigger.id)
            .where(Trigger.id.in_(new_trigger_ids))
        )
        with create_session() as session:
            found = {row[0]: (row[1], row[2] or 0) for row in session.execute(sizes)}
        large = {known for known, size in found.items() if size[0] > MAX_ARGUMENTS or size[1] > MAX_CARRIED}
        for trigger_id in large:
            self._refuse(trigger_id, too_large(*found[trigger_id]))
        return super().build_trigger_workloads(new_trigger_ids - large)

    def _create_workload(self, trigger: Trigger, dag_bag: Any, render_log_fname: Any, session: Any) -> Any:
        """Builds the workload of one trigger, with the validated arguments instead of the task's own."""
        if trigger.task_instance is None:
            log.warning(
                "trigger.ignored", trigger=trigger.id, reason="it belongs to an asset or a callback, not to a task"
            )
            self._ignored.add(trigger.id)
            return None
        try:
            arguments = judge_trigger(
                trigger.classpath, trigger.encrypted_kwargs, team=trigger.team_name or "", now=datetime.now(UTC)
            )
            judge_carried(trigger.task_instance.next_kwargs)
        except TeamMistake as refusal:
            return self._refuse(trigger.id, refusal)
        workload = super()._create_workload(trigger, dag_bag, render_log_fname, session)
        if workload is not None and workload.dag_data is not None:
            self.logger_cache.pop(trigger.id)
            return self._refuse(
                trigger.id, TeamMistake("the task starts from a trigger", fix="drop start_from_trigger")
            )
        return workload and workload.model_copy(update={"encrypted_kwargs": Trigger.encrypt_kwargs(arguments)})

    def heartbeat_callback(self, session: Any = None) -> None:
        """Also touches the file for the liveness probe. Airflow skips this when the other half stops answering."""
        super().heartbeat_callback(session)
        ALIVE.touch()

    def _refuse(self, trigger_id: int, refusal: TeamMistake) -> None:
        log.warning("trigger.refused", trigger=trigger_id, reason=refusal.what)
        self._refused[trigger_id] = str(refusal)
        self.failed_triggers.append((trigger_id, None))

    def on_trigger_failure(self, trigger_id: int, exc: list[str] | None) -> None:
        """Fails the tasks that wait for a trigger. For a refused trigger the error gives the reason."""
        from airflow.utils.session import create_session

        reason = self._refused.pop(trigger_id, None)
        waiting = select(TaskInstance).where(
            TaskInstance.trigger_id == trigger_id, TaskInstance.state == TaskInstanceState.DEFERRED
        )
        with create_session() as session:
            tasks = list(session.scalars(waiting))
            Trigger.submit_failure(trigger_id=trigger_id, exc=exc, session=session)
            for task in tasks if reason else ():
                task.next_kwargs = {"error": reason}


class Runner(TriggererJobRunner):
    """Airflow's triggerer job with `JudgingSupervisor`."""

    def __init__(self, job: Any, teams: Collection[str]) -> None:
        super().__init__(job)
        self.teams = teams

    def _execute(self) -> int | None:
        from airflow._shared.observability.metrics import stats
        from airflow.configuration import conf
        from airflow.observability.metrics import stats_utils

        self.register_signals()
        stats.initialize(
            factory=stats_utils.get_stats_factory(), export_legacy_names=conf.getboolean("metrics", "legacy_names_on")
        )
        supervisor: Any = JudgingSupervisor.start(job=self.job, capacity=self.capacity, logger=log, teams=self.teams)
        self.trigger_runner = supervisor
        try:
            supervisor.run()
        finally:
            supervisor.kill(escalation_delay=10, force=True)
        code: int | None = supervisor._exit_code
        return code


@contextlib.contextmanager
def log_server() -> Iterator[None]:
    """Serves the triggers' logs to the API server while they run, as `airflow triggerer` does."""
    from airflow.configuration import conf
    from airflow.utils.serve_logs import serve_logs

    server = Process(target=functools.partial(serve_logs, port=conf.getint("logging", "trigger_log_server_port")))
    server.start()
    try:
        yield
    finally:
        server.terminate()


def run(teams: Collection[str]) -> None:
    """Runs the teams' triggers until it is stopped."""
    from airflow.configuration import conf
    from airflow.jobs.job import Job, run_job

    installation = find_installation(Path.cwd())
    for team in teams:
        installation.require_team(team)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, OPEN_FILES), most))
    job = Job(heartrate=conf.getfloat("triggerer", "job_heartbeat_sec"))  # type: ignore[no-untyped-call]
    run_job(job=job, execute_callable=Runner(job, teams)._execute)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m kommuna.airflow.triggers.process")
    parser.add_argument("teams", nargs="*", metavar="TEAM")
    parser.add_argument(
        "--skip-serve-logs", action="store_true", help="do not serve logs: the API server reads the files itself"
    )
    arguments = parser.parse_args()
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    from airflow.providers_manager import ProvidersManager

    ProvidersManager().initialize_providers_configuration()  # type: ignore[no-untyped-call]
    try:
        with contextlib.nullcontext() if arguments.skip_serve_logs else log_server():
            run(arguments.teams)
    except KommunaError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

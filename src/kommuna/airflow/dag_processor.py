"""Processes DAG files and their callbacks, each file as its team: `python -m kommuna.airflow.dag_processor`.

Airflow's DAG processor answers a file's requests (variables, connections) as for a task without a team, so a file never
finds what belongs to its team. Here the answer is for the team of the file's bundle, as in that team's tasks.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
from airflow.dag_processing.manager import DagFileInfo, DagFileProcessorManager
from fastapi import Request

if TYPE_CHECKING:
    from airflow.api_fastapi.execution_api.app import InProcessExecutionAPI
    from airflow.dag_processing.processor import DagFileProcessorProcess
    from airflow.sdk.api.client import Client

_TEAM = "kommuna-team"  # a header of the requests that a processor sends to the Execution API in its own process


@attrs.define(kw_only=True)
class GracefulManager(DagFileProcessorManager):
    """Airflow's manager, which a signal ends between two parsing rounds."""

    _signal: int | None = attrs.field(default=None, init=False)  # the signal that this process received

    def _exit_gracefully(self, signum: int, frame: object) -> None:
        """Notes the signal. Airflow's own handler logs and queries the database inside the signal handler.

        If the signal interrupts code that holds a lock of either, that handler deadlocks and the process never ends.
        """
        self._signal = signum

    def exit_if_signalled(self) -> None:
        """Ends the children and then the process, if a signal has arrived."""
        if self._signal is not None:
            super()._exit_gracefully(self._signal, None)  # type: ignore[no-untyped-call]


@attrs.define(kw_only=True)
class TeamsManager(GracefulManager):
    """Airflow's manager, with one client of the Execution API per team."""

    _clients: dict[str | None, Client] = attrs.field(factory=dict, init=False)
    _reading: str | None = attrs.field(default=None, init=False)  # the bundle of the file whose process is started

    @property
    def client(self) -> Client:
        """The client for the file whose process is being started; Airflow reads this property once per file."""
        team = self._get_team_name(self._reading) if self._reading else None
        if team not in self._clients:
            self._clients[team] = client_of(self._api_server, team)
        return self._clients[team]

    def _create_process(self, dag_file: DagFileInfo) -> DagFileProcessorProcess:
        self._reading = dag_file.bundle_name
        return super()._create_process(dag_file)


def client_of(api: InProcessExecutionAPI, team: str | None) -> Client:
    """Makes a client of the Execution API in this process that acts for one team.

    Args:
        api: the API that Airflow makes for its DAG processor.
        team: the team's name; None reads what belongs to no team.
    """
    from airflow.api_fastapi.execution_api.security import get_team_name_dep
    from airflow.sdk.api.client import Client

    api.app.dependency_overrides[get_team_name_dep] = _team_of_request
    client = Client(base_url=None, token="", dry_run=True, transport=api.transport)
    client.base_url = "http://in-process.invalid./"
    if team is not None:
        client.headers[_TEAM] = team
    return client


async def _team_of_request(request: Request) -> str | None:
    return request.headers.get(_TEAM)


def run(manager: GracefulManager, *, beat: Callable[[], object] = lambda: None) -> None:
    """Runs a manager as Airflow's DAG processor does, until it is stopped.

    Args:
        manager: the manager that parses the files.
        beat: called with each heartbeat.
    """
    from airflow.jobs.dag_processor_job_runner import DagProcessorJobRunner
    from airflow.jobs.job import Job, run_job

    job = Job()  # type: ignore[no-untyped-call]
    runner = DagProcessorJobRunner(job=job, processor=manager)
    airflows_beat = manager.heartbeat

    def heartbeat() -> None:  # once per round
        manager.exit_if_signalled()
        airflows_beat()
        beat()

    manager.heartbeat = heartbeat
    run_job(job=job, execute_callable=runner._execute)


def start() -> None:
    """Prepares the process as `airflow dag-processor` does before it reads files."""
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    from airflow.providers_manager import ProvidersManager

    providers: Any = ProvidersManager()  # type: ignore[no-untyped-call]
    providers.initialize_providers_configuration()


if __name__ == "__main__":
    start()
    run(TeamsManager(max_runs=-1))

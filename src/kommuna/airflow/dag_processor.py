"""Reads DAG files and runs their callbacks, each file as its team: `python -m kommuna.airflow.dag_processor`.

Airflow's own DAG processor. It answers what a file asks for (variables, connections) as if for a task of no team, which
finds nothing that is a team's; here the answer is for the team of the file's bundle, as in that team's tasks.
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

_TEAM = "kommuna-team"  # a header of the requests that a processor makes of the Execution API in its own process


@attrs.define(kw_only=True)
class EndingManager(DagFileProcessorManager):
    """Airflow's manager, which a signal ends between two rounds."""

    _ended_by: int | None = attrs.field(default=None, init=False)  # the signal that asked this process to end

    def _exit_gracefully(self, signum: int, frame: object) -> None:
        """Notes the signal. Airflow's own handler logs and asks the database within the signal.

        Where it interrupts what holds a lock of either, it waits for itself, and the process never ends.
        """
        self._ended_by = signum

    def end_if_asked(self) -> None:
        """Ends the process between two rounds, its children first, if a signal came."""
        if self._ended_by is not None:
            super()._exit_gracefully(self._ended_by, None)  # type: ignore[no-untyped-call]


@attrs.define(kw_only=True)
class TeamsManager(EndingManager):
    """Airflow's manager, with a client of the Execution API for each team."""

    _clients: dict[str | None, Client] = attrs.field(factory=dict, init=False)
    _reading: str | None = attrs.field(default=None, init=False)  # the bundle of the file whose process is started

    @property
    def client(self) -> Client:
        """The client for the file whose process is being started: Airflow asks once for each."""
        team = self._get_team_name(self._reading) if self._reading else None
        if team not in self._clients:
            self._clients[team] = client_of(self._api_server, team)
        return self._clients[team]

    def _create_process(self, dag_file: DagFileInfo) -> DagFileProcessorProcess:
        self._reading = dag_file.bundle_name
        return super()._create_process(dag_file)


def client_of(api: InProcessExecutionAPI, team: str | None) -> Client:
    """A client of the Execution API in this process that asks for one team.

    Args:
        api: Airflow's, made for its DAG processor.
        team: None asks for what belongs to no team.
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


def run(manager: EndingManager, *, beat: Callable[[], object] = lambda: None) -> None:
    """Runs a manager as Airflow's DAG processor does, until it is ended.

    Args:
        beat: called with each heartbeat.
    """
    from airflow.jobs.dag_processor_job_runner import DagProcessorJobRunner
    from airflow.jobs.job import Job, run_job

    job = Job()  # type: ignore[no-untyped-call]
    runner = DagProcessorJobRunner(job=job, processor=manager)
    airflows_beat = manager.heartbeat

    def heartbeat() -> None:  # once a round
        manager.end_if_asked()
        airflows_beat()
        beat()

    manager.heartbeat = heartbeat
    run_job(job=job, execute_callable=runner._execute)


def start() -> None:
    """What `airflow dag-processor` does before it reads files."""
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    from airflow.providers_manager import ProvidersManager

    providers: Any = ProvidersManager()  # type: ignore[no-untyped-call]
    providers.initialize_providers_configuration()


if __name__ == "__main__":
    start()
    run(TeamsManager(max_runs=-1))

"""`TeamSecrets`: a team's variables and connections for a process outside the platform: `run-dag`, `check`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import structlog
from airflow.secrets import BaseSecretsBackend
from airflow.secrets.environment_variables import EnvironmentVariablesBackend
from airflow.secrets.metastore import MetastoreBackend
from sqlalchemy.exc import SQLAlchemyError

from kommuna.cli.run_dag.settings import database_file, is_at_hand

log = structlog.get_logger()


class TeamSecrets(BaseSecretsBackend):
    """Looks up secrets in the environment, then in the run's own database, then in the platform's database.

    Args:
        team: the team; secrets without a team are available to everybody.
        platform: the address of the platform's database, which is only read.
    """

    def __init__(self, team: str, platform: str) -> None:
        self._team = team
        self._platform = platform
        self._environment = EnvironmentVariablesBackend()
        self._metastore = MetastoreBackend()

    def get_variable(self, key: str, team_name: str | None = None) -> str | None:
        """Returns a variable's text."""
        set_here = self._environment.get_variable(key, team_name=self._team)
        if set_here is None and is_at_hand() and database_file().exists():
            set_here = self._metastore.get_variable(key, team_name=self._team)
        if set_here is not None:
            return set_here
        return self._on_platform(lambda session: self._metastore.get_variable(key, self._team, session=session))

    def get_conn_value(self, conn_id: str, team_name: str | None = None) -> str | None:
        """Returns a connection as JSON."""

        def read(session: Any) -> str | None:
            connection = self._metastore.get_connection(conn_id, self._team, session=session)
            return connection.as_json() if connection else None

        return self._environment.get_conn_value(conn_id, team_name=self._team) or self._on_platform(read)

    def _on_platform(self, read: Callable[[Any], str | None]) -> str | None:
        """Reads from the platform's database; returns None and warns once if it is down."""
        try:
            with self._sessions() as session:
                return read(session)
        except SQLAlchemyError as error:
            _warn_once(str(error).splitlines()[0])
            return None

    @functools.cached_property
    def _sessions(self) -> Any:
        from sqlalchemy import create_engine
        from sqlalchemy.orm import sessionmaker

        return sessionmaker(create_engine(self._platform))


@functools.cache
def _warn_once(error: str) -> None:
    """Warns once per process that secrets of the platform are missing."""
    log.warning("variables and connections of the platform are missing: it is down (`kommuna up`)", error=error)

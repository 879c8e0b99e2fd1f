"""Databases, teams and pools: `python -m kommuna.embedded.prepare airflow|mlflow [migrate]`, run twice without harm.

One process for all of Airflow's part, instead of one Airflow command for the schema, each team and each pool: every
such command takes seconds to start.

A migration works on a copy and replaces the database at its end: SQLite's schema changes cannot be rolled back, and
neither server mends a database that an interrupted migration left behind.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

from kommuna.embedded.settings import airflow_database, local_pool_slots, mlflow_database
from kommuna.spec.installation import Installation, find_installation
from kommuna.teams import synchronise


def prepare_airflow(installation: Installation, *, migrate: bool) -> None:
    """Airflow's schema where asked for, then teams and pools."""
    if not migrate:
        return synchronise(installation.platform.teams, local_pool_slots(installation))

    def work(partial: Path) -> None:
        os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"sqlite:///{partial}"
        from airflow.cli.cli_parser import get_parser

        arguments = get_parser().parse_args(["db", "migrate"])
        arguments.func(arguments)
        synchronise(installation.platform.teams, local_pool_slots(installation))
        from airflow.settings import dispose_orm

        dispose_orm(do_log=False)

    migrate_copy(airflow_database(installation), work)


def prepare_mlflow(installation: Installation) -> None:
    """MLflow's schema."""

    def work(partial: Path) -> None:
        from mlflow.db import upgrade

        upgrade.main([f"sqlite:///{partial}"], standalone_mode=False)

    migrate_copy(mlflow_database(installation), work)


def migrate_copy(database: Path, work: Callable[[Path], None]) -> None:
    """Lets `work` change a copy of a database (an empty one if there is none), then puts it in the database's place."""
    partial = database.with_name(f"{database.name}.partial")
    for path in (partial, Path(f"{partial}-wal"), Path(f"{partial}-shm"), Path(f"{partial}-journal")):
        path.unlink(missing_ok=True)
    if database.exists():
        with sqlite3.connect(database) as source, sqlite3.connect(partial) as target:
            source.backup(target)
    work(partial)
    with sqlite3.connect(partial) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    for leftover in ("-wal", "-shm"):
        Path(f"{database}{leftover}").unlink(missing_ok=True)
    partial.replace(database)


if __name__ == "__main__":
    here = find_installation(Path.cwd())
    if sys.argv[1] == "mlflow":
        prepare_mlflow(here)
    else:
        prepare_airflow(here, migrate="migrate" in sys.argv)

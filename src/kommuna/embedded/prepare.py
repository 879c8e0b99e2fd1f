"""Prepares databases, teams and pools, idempotently: `python -m kommuna.embedded.prepare airflow|mlflow`.

One process does all of Airflow's part. Separate Airflow commands for the schema, each team and each pool would take
seconds each to start.

A migration changes a copy, which then replaces the database: neither Airflow nor MLflow repairs a database after an
interrupted migration.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path

from kommuna.airflow import database
from kommuna.embedded.database import databases
from kommuna.embedded.settings import state_folder
from kommuna.spec.installation import Installation, find_installation


def wanted(installation: Installation, name: str) -> str:
    """Returns the note of a database that is up to date: the version of its schema, and its content, as JSON."""
    if name == "mlflow":
        return json.dumps({"schema": version("mlflow")})
    pools = sorted((name, *rest) for name, rest in installation.platform.pool_slots().items())
    teams = {"teams": sorted(installation.platform.teams), "pools": pools}
    return json.dumps({"schema": version("apache-airflow"), "content": teams})


def is_prepared(installation: Installation, name: str) -> bool:
    """Whether a database is up to date, according to its note."""
    return databases.note(state_folder(installation), name) == wanted(installation, name)


def prepare_airflow(installation: Installation) -> None:
    """Migrates Airflow's schema if it has another version, and then synchronises teams and pools."""
    state, note = state_folder(installation), wanted(installation, "airflow")
    known = json.loads(databases.note(state, "airflow") or "{}")
    if known.get("schema") == json.loads(note)["schema"]:
        database.synchronise(installation.platform.teams, installation.platform.pool_slots())
        databases.set_note(state, "airflow", note)
        return

    def work(copy: str) -> None:
        os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = databases.url(state, "airflow", copy=copy)
        os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC"] = databases.url(
            state, "airflow", copy=copy, driver="asyncpg"
        )
        database.migrate()
        database.synchronise(installation.platform.teams, installation.platform.pool_slots())
        database.close()

    databases.change_copy(state, "airflow", work, text=note)


def prepare_mlflow(installation: Installation) -> None:
    """Migrates MLflow's schema."""
    state = state_folder(installation)

    def work(copy: str) -> None:
        from mlflow.db import upgrade

        upgrade.main([databases.url(state, "mlflow", copy=copy)], standalone_mode=False)

    databases.change_copy(state, "mlflow", work, text=wanted(installation, "mlflow"))


if __name__ == "__main__":
    here = find_installation(Path.cwd())
    (prepare_mlflow if sys.argv[1] == "mlflow" else prepare_airflow)(here)

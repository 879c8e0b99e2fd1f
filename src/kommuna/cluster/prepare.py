"""Prepares a database, idempotently: `python -m kommuna.cluster.prepare airflow|mlflow`."""

from __future__ import annotations

import os
import sys

import yaml

from kommuna.airflow import database
from kommuna.cluster.prepared import mark, refuse_superuser, wait_for_server
from kommuna.spec.team import Platform


def prepare_airflow(platform: Platform) -> None:
    """Migrates Airflow's schema, and synchronises teams, pools and bundles. Obsolete pools of teams are removed."""
    database.migrate()
    database.synchronise(platform.teams, platform.pool_slots())
    database.synchronise_bundles()


def prepare_mlflow() -> None:
    """Migrates MLflow's schema, and that of its users."""
    from mlflow.db import upgrade
    from mlflow.server.auth.db.cli import upgrade as upgrade_users

    url = os.environ["KOMMUNA_DATABASE"]
    upgrade.main([url], standalone_mode=False)
    upgrade_users.main(["--url", url], standalone_mode=False)


def main() -> None:
    """Prepares one database, and sets the mark that servers wait for."""
    wait_for_server()
    refuse_superuser()
    if sys.argv[1] == "mlflow":
        prepare_mlflow()
    else:
        description = yaml.safe_load(os.environ["KOMMUNA_DESCRIPTION"])
        prepare_airflow(Platform.read(description, where="the chart's values"))
    mark()


if __name__ == "__main__":
    main()

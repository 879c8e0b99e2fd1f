"""`python -m kommuna.cluster.prepare airflow|mlflow`: schema, teams, pools, bundles; run twice without harm."""

from __future__ import annotations

import os
import sys

import yaml

from kommuna.cluster.prepared import mark, wait_for_server
from kommuna.spec.team import Platform
from kommuna.teams import pool_slots, synchronise


def prepare_airflow(platform: Platform) -> None:
    """Airflow's schema, teams, pools and bundles; pools that a team no longer has are removed."""
    from airflow.cli.cli_parser import get_parser

    arguments = get_parser().parse_args(["db", "migrate"])
    arguments.func(arguments)
    synchronise(platform.teams, pool_slots(platform))
    # Here rather than by the DAG processors: several that begin at one time would insert the same rows.
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    DagBundlesManager().sync_bundles_to_db()  # type: ignore[no-untyped-call]


def prepare_mlflow() -> None:
    """MLflow's schema, and that of its users."""
    from mlflow.db import upgrade
    from mlflow.server.auth.db.cli import upgrade as upgrade_users

    url = os.environ["KOMMUNA_DATABASE"]
    upgrade.main([url], standalone_mode=False)
    upgrade_users.main(["--url", url], standalone_mode=False)


def main() -> None:
    """Prepares one database, and leaves the mark that servers wait for."""
    wait_for_server()
    if sys.argv[1] == "mlflow":
        prepare_mlflow()
    else:
        description = yaml.safe_load(os.environ["KOMMUNA_DESCRIPTION"])
        prepare_airflow(Platform.read(description, where="the chart's values"))
    mark()


if __name__ == "__main__":
    main()

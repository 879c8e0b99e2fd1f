"""`python -m kommuna.cluster.prepare airflow|mlflow`: schema, teams, pools, bundles; run twice without harm."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

import yaml

from kommuna.cluster.prepared import mark, wait_for_server
from kommuna.spec.names import owner_of
from kommuna.spec.team import Platform


def prepare_airflow(platform: Platform) -> None:
    """Airflow's schema, teams, pools and bundles; pools that a team no longer has are removed."""
    from airflow.cli.cli_parser import get_parser

    arguments = get_parser().parse_args(["db", "migrate"])
    arguments.func(arguments)
    _teams_and_pools(platform)
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


def pool_slots(platform: Platform) -> dict[str, tuple[str, int]]:
    """Every pool: its global id to its team and its slots."""
    return {
        platform.pool(name, pool): (name, slots)
        for name, team in platform.teams.items()
        for pool, slots in team.pools.items()
    }


def superfluous(known: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """Pools of teams' that the description no longer has.

    Args:
        known: the pools as they are; Airflow's own have no team's prefix, and stay.
        wanted: the pools that should be.
    """
    return sorted({pool for pool in known if owner_of(pool) is not None} - set(wanted))


def _teams_and_pools(platform: Platform) -> None:
    from airflow.models.pool import Pool
    from airflow.models.team import Team
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        known = set(session.scalars(select(Team.name)))
        session.add_all([Team(name=name) for name in platform.teams if name not in known])
        session.flush()
        wanted = pool_slots(platform)
        for pool, (team, slots) in wanted.items():
            Pool.create_or_update_pool(pool, slots, f"Team {team}", False, team_name=team, session=session)
        pools = {str(pool.pool): pool for pool in session.scalars(select(Pool))}
        for name in superfluous(pools, wanted):
            session.delete(pools[name])


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

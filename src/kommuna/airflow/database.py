"""Airflow's database: its schema, and the teams, pools and bundles of the platform's description.

Every function is idempotent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kommuna.spec.names import owner_of


def migrate() -> None:
    """Migrates the schema to that of the installed Airflow."""
    from airflow.cli.cli_parser import get_parser

    arguments = get_parser().parse_args(["db", "migrate"])
    arguments.func(arguments)


def close() -> None:
    """Closes this process's connections to the database."""
    from airflow.settings import dispose_orm

    dispose_orm(do_log=False)


def synchronise_bundles() -> None:
    """Adds the configured bundles. Call it before DAG processors start: several at once insert duplicate rows."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    DagBundlesManager().sync_bundles_to_db()  # type: ignore[no-untyped-call]


def obsolete_pools(known: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """Returns the team pools that the description no longer has.

    Args:
        known: the pools that exist; those without a team's prefix are Airflow's own and stay.
        wanted: the pools that should be.
    """
    return sorted({pool for pool in known if owner_of(pool) is not None} - set(wanted))


def synchronise(teams: Iterable[str], pools: Mapping[str, tuple[str, int]]) -> None:
    """Adds the teams that are missing, sets the pools, and removes pools that a team no longer has.

    Args:
        teams: every team's name.
        pools: every pool's id to its team and its slots.
    """
    from airflow.models.pool import Pool
    from airflow.models.team import Team
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        known = set(session.scalars(select(Team.name)))
        session.add_all([Team(name=name) for name in teams if name not in known])
        session.flush()
        for pool, (team, slots) in pools.items():
            Pool.create_or_update_pool(pool, slots, f"Team {team}", False, team_name=team, session=session)
        rows = {str(row.pool): row for row in session.scalars(select(Pool))}
        for name in obsolete_pools(rows, pools):
            session.delete(rows[name])

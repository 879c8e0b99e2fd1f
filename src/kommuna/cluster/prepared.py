"""Waits until a database is prepared for this release: `python -m kommuna.cluster.prepared airflow|mlflow`.

The preparation sets a mark in the database, and servers wait for it before they start. A scheduler that finds no
schema, or not all teams, would crash and be restarted with growing pauses. Marks are kept, so pods of an old release
still start after an upgrade that failed halfway.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from kommuna.errors import PlatformFault, SpecError
from kommuna.waiting import wait_until

WAIT_SECONDS = 600.0
_TABLE = "kommuna_prepared"


def main() -> None:
    """Waits for the mark of this release.

    Raises:
        PlatformFault: it does not appear within ten minutes.
    """
    wanted = os.environ["KOMMUNA_PREPARED_FOR"]
    wait_until(
        "the database is prepared",
        lambda: wanted in marks(),
        seconds=WAIT_SECONDS,
        every=1,
        late=lambda: PlatformFault(
            f"the database of {sys.argv[1]} is not prepared for this release",
            fix="see the log of the job that prepares it: kubectl get jobs",
        ),
    )


def marks() -> set[str]:
    """Returns the releases that the database is prepared for; none while it is unreachable or has no mark."""
    import psycopg2

    try:
        with _cursor() as cursor:
            cursor.execute(f"SELECT release FROM {_TABLE}")
            return {str(row[0]) for row in cursor.fetchall()}
    except (psycopg2.OperationalError, psycopg2.errors.UndefinedTable):
        return set()


def mark() -> None:
    """Records that the database is prepared for this release."""
    with _cursor() as cursor:
        cursor.execute(f"CREATE TABLE IF NOT EXISTS {_TABLE} (release text PRIMARY KEY, prepared timestamptz)")
        cursor.execute(
            f"INSERT INTO {_TABLE} VALUES (%s, now()) ON CONFLICT (release) DO UPDATE SET prepared = now()",
            (os.environ["KOMMUNA_PREPARED_FOR"],),
        )


def refuse_superuser() -> None:
    """Checks that Airflow or MLflow logs in to its database as an ordinary role.

    Raises:
        SpecError: the role is a superuser, which could read every database of the server and run programs on it.
    """
    with _cursor() as cursor:
        cursor.execute("SELECT rolname FROM pg_roles WHERE rolname = current_user AND rolsuper")
        row = cursor.fetchone()
    if row is not None:
        raise SpecError(
            f"the database role '{row[0]}' is a superuser",
            fix="give Airflow and MLflow each a role of their own, which owns its database and nothing else",
        )


def wait_for_server(url: str | None = None) -> None:
    """Waits until the database server accepts connections.

    Args:
        url: a SQLAlchemy URL; that of `KOMMUNA_DATABASE` if absent.

    Raises:
        PlatformFault: it does not accept any within ten minutes.
    """
    import psycopg2

    why = ""

    def connects() -> bool:
        nonlocal why
        try:
            with _cursor(url):
                return True
        except psycopg2.OperationalError as error:
            why = (str(error).splitlines() or [type(error).__name__])[0]
            return False

    wait_until(
        "the database accepts connections",
        connects,
        seconds=WAIT_SECONDS,
        every=1,
        late=lambda: PlatformFault(
            f"the database cannot be reached: {why}",
            fix="check the Secret that `database_secret` names, or the bundled database's pod",
        ),
    )


@contextlib.contextmanager
def _cursor(url: str | None = None) -> Iterator[Any]:
    """Opens a cursor in one transaction on the database of a SQLAlchemy URL: of `KOMMUNA_DATABASE` if it is absent."""
    import psycopg2

    url = url or os.environ["KOMMUNA_DATABASE"]
    connection = psycopg2.connect("postgresql://" + url.split("://", 1)[1], connect_timeout=5)
    try:
        with connection, connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


if __name__ == "__main__":
    main()

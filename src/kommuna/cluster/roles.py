"""Gives each database of the bundled PostgreSQL its own role, idempotently: `python -m kommuna.cluster.roles`.

Besides the database itself, this is the only process that has the superuser's password.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from kommuna.cluster.prepared import wait_for_server
from kommuna.database_roles import close_shared, ensure_role, give_database

SUPERUSER = "kommuna"


def main() -> None:
    """Makes the roles of the URLs in `KOMMUNA_DATABASE_AIRFLOW` and `KOMMUNA_DATABASE_MLFLOW`."""
    from sqlalchemy.engine import make_url

    password = os.environ["KOMMUNA_SUPERUSER_PASSWORD"]
    urls = [make_url(os.environ[f"KOMMUNA_DATABASE_{name}"]) for name in ("AIRFLOW", "MLFLOW")]
    first = urls[0].set(username=SUPERUSER, password=password, database="postgres")
    wait_for_server(first.render_as_string(hide_password=False))

    @contextlib.contextmanager
    def connect(database: str) -> Iterator[Any]:
        import psycopg2

        connection = psycopg2.connect(
            host=first.host, port=first.port, user=SUPERUSER, password=password, dbname=database, connect_timeout=5
        )
        connection.autocommit = True
        try:
            yield connection
        finally:
            connection.close()

    close_shared(connect)
    for url in urls:
        role, database = str(url.username), str(url.database)
        ensure_role(connect, role, password=str(url.password))
        give_database(connect, database, role)


if __name__ == "__main__":
    main()

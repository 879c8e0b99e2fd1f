"""The databases on the platform's server: their addresses, their notes, and changes that are made on a copy."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kommuna.database_roles import close_shared, ensure_role, existing, give_database
from kommuna.embedded.database.server import PORT, PROGRAM, ROLES, SUPERUSER
from kommuna.embedded.sockets import sockets_folder
from kommuna.errors import PlatformFault
from kommuna.waiting import wait_until


def url(state: Path, database: str, *, copy: str = "", driver: str = "psycopg2") -> str:
    """Returns the SQLAlchemy address of a database, or of a copy of it, for the database's own role.

    Args:
        state: the platform's state folder; the server listens on a socket in a folder that belongs to it.
        database: the database, which its role is named after.
        copy: the name of a copy; empty for the database itself.
        driver: SQLAlchemy's driver for PostgreSQL.
    """
    return f"postgresql+{driver}://{database}@/{copy or database}?host={sockets_folder(state)}&port={PORT}"


def ensure_roles(state: Path) -> None:
    """Gives each database its own role, which owns it: Airflow and MLflow do not log in as the superuser."""
    connect = functools.partial(connected, state)
    close_shared(connect)
    for database in existing(connect, ROLES):
        ensure_role(connect, database)
        give_database(connect, database, database)


@contextlib.contextmanager
def connected(state: Path, database: str = "postgres") -> Iterator[Any]:
    """Opens a connection as the superuser, in autocommit mode.

    Raises:
        psycopg2.OperationalError: the server does not answer.
    """
    import psycopg2

    host = str(sockets_folder(state))
    connection = psycopg2.connect(host=host, port=PORT, user=SUPERUSER, dbname=database, connect_timeout=5)
    connection.autocommit = True
    try:
        yield connection
    finally:
        connection.close()


def answers(state: Path) -> bool:
    """Whether the server accepts a connection."""
    import psycopg2

    try:
        with connected(state):
            return True
    except psycopg2.OperationalError:
        return False


def wait_until_ready(state: Path, still_starting: Callable[[], None], *, seconds: float = 60) -> None:
    """Waits until the server accepts connections. After a kill it recovers first.

    Args:
        state: the platform's state folder.
        still_starting: raises if the server has given up.
        seconds: the longest wait.

    Raises:
        PlatformFault: the server does not answer in time.
    """

    def ready() -> bool:
        if answers(state):
            return True
        still_starting()
        return False

    def late() -> PlatformFault:
        log = state / "logs" / f"{PROGRAM}.log"
        return PlatformFault(f"PostgreSQL does not answer after {seconds:.0f} seconds", where=str(log))

    wait_until("PostgreSQL answers", ready, seconds=seconds, every=0.03, late=late)


def note(state: Path, database: str) -> str | None:
    """Returns the note that `set_note` left on a database: "" if there is none, None if there is no such database."""
    with connected(state) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = %s", [database]
        )
        row = cursor.fetchone()
        return None if row is None else str(row[0])


def set_note(state: Path, database: str, text: str) -> None:
    """Writes a note on a database, as its comment: what it was prepared for.

    Args:
        state: the platform's state folder.
        database: the database's name.
        text: the note; it replaces an earlier one.
    """
    with connected(state) as connection, connection.cursor() as cursor:
        cursor.execute(f'COMMENT ON DATABASE "{database}" IS %s', [text])


def change_copy(state: Path, database: str, work: Callable[[str], None], *, text: str) -> None:
    """Changes a copy of a database, or an empty one if there is none, and then puts it in the database's place.

    The change is atomic: after an interruption the database is either the old or the new one, with its note.

    Args:
        state: the platform's state folder.
        database: the name of the database, and of the role that owns it.
        work: changes the copy, whose name it is given; connections that it leaves open are closed.
        text: the note of the new database.
    """
    copy, old = f"{database}_new", f"{database}_old"
    with connected(state) as connection, connection.cursor() as cursor:
        for leftover in (copy, old):
            cursor.execute(f'DROP DATABASE IF EXISTS "{leftover}" WITH (FORCE)')
        cursor.execute("SELECT count(*) FROM pg_database WHERE datname = %s", [database])
        exists = bool(cursor.fetchone()[0])
        cursor.execute(f'CREATE DATABASE "{copy}" TEMPLATE "{database if exists else "template0"}"')
    connect = functools.partial(connected, state)
    ensure_role(connect, database)
    give_database(connect, copy, database)
    work(copy)
    with connected(state) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [copy])
        cursor.execute("BEGIN")
        if exists:
            cursor.execute(f'ALTER DATABASE "{database}" RENAME TO "{old}"')
        cursor.execute(f'ALTER DATABASE "{copy}" RENAME TO "{database}"')
        cursor.execute(f'COMMENT ON DATABASE "{database}" IS %s', [text])
        cursor.execute("COMMIT")
        cursor.execute(f'DROP DATABASE IF EXISTS "{old}" WITH (FORCE)')

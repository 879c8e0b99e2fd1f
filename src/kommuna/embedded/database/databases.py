"""The databases on the platform's server: their addresses, what they were prepared for, and changes by a copy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kommuna.embedded.database.server import PORT, PROGRAM, ROLE
from kommuna.embedded.sockets import sockets_folder
from kommuna.errors import PlatformFault
from kommuna.waiting import wait_until


def url(state: Path, database: str, *, driver: str = "psycopg2") -> str:
    """The address of a database for SQLAlchemy."""
    return f"postgresql+{driver}://{ROLE}@/{database}?host={sockets_folder(state)}&port={PORT}"


@contextlib.contextmanager
def connected(state: Path, database: str = "postgres") -> Iterator[Any]:
    """A connection that commits each statement by itself.

    Raises:
        psycopg2.OperationalError: the server does not answer.
    """
    import psycopg2

    host = str(sockets_folder(state))
    connection = psycopg2.connect(host=host, port=PORT, user=ROLE, dbname=database, connect_timeout=5)
    connection.autocommit = True
    try:
        yield connection
    finally:
        connection.close()


def answers(state: Path) -> bool:
    """Whether the server lets a client in."""
    import psycopg2

    try:
        with connected(state):
            return True
    except psycopg2.OperationalError:
        return False


def wait_until_it_answers(state: Path, still_starting: Callable[[], None], *, seconds: float = 60) -> None:
    """Returns once the server lets a client in; one that was killed recovers first.

    Args:
        still_starting: raises where the server has given up.

    Raises:
        PlatformFault: the time is over.
    """

    def answered() -> bool:
        if answers(state):
            return True
        still_starting()
        return False

    def late() -> PlatformFault:
        log = state / "logs" / f"{PROGRAM}.log"
        return PlatformFault(f"PostgreSQL does not answer after {seconds:.0f} seconds", where=str(log))

    wait_until("PostgreSQL answers", answered, seconds=seconds, every=0.03, late=late)


def note(state: Path, database: str) -> str | None:
    """What a database was prepared for, as `set_note` left it; "" for nothing, None where there is no such database."""
    with connected(state) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = %s", [database]
        )
        row = cursor.fetchone()
        return None if row is None else str(row[0])


def set_note(state: Path, database: str, text: str) -> None:
    """Says in the database itself what it was prepared for."""
    with connected(state) as connection, connection.cursor() as cursor:
        cursor.execute(f'COMMENT ON DATABASE "{database}" IS %s', [text])


def change_copy(state: Path, database: str, work: Callable[[str], None], *, text: str) -> None:
    """Lets `work` change a copy of a database (an empty one if there is none), then puts it in the database's place.

    Whatever interrupts it, the database is whole: the old one or the new one, with its note.

    Args:
        work: is given the copy's name; connections that it leaves open are ended.
        text: the new one's note.
    """
    copy, old = f"{database}_new", f"{database}_old"
    with connected(state) as connection, connection.cursor() as cursor:
        for leftover in (copy, old):
            cursor.execute(f'DROP DATABASE IF EXISTS "{leftover}" WITH (FORCE)')
        cursor.execute("SELECT count(*) FROM pg_database WHERE datname = %s", [database])
        exists = bool(cursor.fetchone()[0])
        cursor.execute(f'CREATE DATABASE "{copy}" TEMPLATE "{database if exists else "template0"}"')
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

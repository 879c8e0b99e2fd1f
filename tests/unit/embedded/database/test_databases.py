"""A change is made on a copy: after an interruption the database is either the old or the new one, with its note."""

from __future__ import annotations

from pathlib import Path

import pytest

from kommuna.embedded.database import databases


def rows(state: Path, database: str) -> list[tuple[object, ...]]:
    with databases.connected(state, database) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT * FROM things ORDER BY 1")
        return list(cursor.fetchall())


def run(state: Path, database: str, *statements: str) -> None:
    with databases.connected(state, database) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def create(state: Path, name: str) -> None:
    def work(copy: str) -> None:
        run(state, copy, "CREATE TABLE things (id integer)", "INSERT INTO things VALUES (1)")

    databases.change_copy(state, name, work, text="first")


def names(state: Path) -> set[str]:
    with databases.connected(state) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database")
        return {name for (name,) in cursor.fetchall()}


def test_a_missing_database_has_no_note(running: Path) -> None:
    assert databases.note(running, "nothing") is None


def test_a_changed_copy_takes_the_databases_place_with_its_note(running: Path) -> None:
    create(running, "one")
    assert (rows(running, "one"), databases.note(running, "one")) == ([(1,)], "first")
    databases.change_copy(
        running, "one", lambda copy: run(running, copy, "ALTER TABLE things ADD more text DEFAULT 'new'"), text="it's"
    )
    assert (rows(running, "one"), databases.note(running, "one")) == ([(1, "new")], "it's")
    assert {name for name in names(running) if name.startswith("one")} == {"one"}


def test_an_interrupted_change_leaves_the_old_database_and_can_be_repeated(running: Path) -> None:
    create(running, "two")

    def interrupted(copy: str) -> None:
        run(running, copy, "ALTER TABLE things ADD more text DEFAULT 'half'")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        databases.change_copy(running, "two", interrupted, text="second")
    assert (rows(running, "two"), databases.note(running, "two")) == ([(1,)], "first")
    databases.change_copy(
        running, "two", lambda copy: run(running, copy, "ALTER TABLE things ADD more text DEFAULT 'new'"), text="second"
    )
    assert rows(running, "two") == [(1, "new")]


def test_connections_left_open_do_not_block_the_change(running: Path) -> None:
    import psycopg2

    from kommuna.embedded.database.server import PORT
    from kommuna.embedded.sockets import sockets_folder

    create(running, "three")
    held = []

    def work(copy: str) -> None:
        held.append(psycopg2.connect(host=str(sockets_folder(running)), port=PORT, user="kommuna", dbname=copy))

    databases.change_copy(running, "three", work, text="second")
    assert databases.note(running, "three") == "second"


def test_a_database_of_an_earlier_version_goes_to_its_own_role_and_keeps_its_rows(running: Path) -> None:
    """Earlier, everything belonged to the superuser, which Airflow and MLflow logged in as."""
    import psycopg2

    others = ("CREATE TYPE mood AS ENUM ('a')", "CREATE VIEW seen AS SELECT 1 AS id", "CREATE SEQUENCE loose")
    for name in ("airflow", "mlflow"):
        run(running, "postgres", f"CREATE DATABASE {name}")
        run(running, name, "CREATE TABLE things (id serial)", "INSERT INTO things VALUES (1)", *others)

    def as_role(role: str, database: str, *statements: str) -> list[tuple[object, ...]]:
        host = databases.sockets_folder(running)
        connection = psycopg2.connect(host=str(host), port=databases.PORT, user=role, dbname=database)
        try:
            with connection, connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    for _again in range(2):
        databases.ensure_roles(running)
        migrate = ("ALTER TABLE things ADD IF NOT EXISTS more text", "ALTER TYPE mood ADD VALUE IF NOT EXISTS 'b'")
        as_role("airflow", "airflow", *migrate, "DROP VIEW seen", "CREATE VIEW seen AS SELECT 2 AS id")
        assert rows(running, "airflow") == [(1, None)]
        assert as_role("mlflow", "mlflow", "INSERT INTO things DEFAULT VALUES RETURNING id")
    assert as_role("airflow", "airflow", "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == [(False,)]
    for role, elsewhere in (("airflow", "mlflow"), ("mlflow", "airflow"), ("airflow", "postgres")):
        with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
            as_role(role, elsewhere)
    for statement in ("COPY (SELECT 1) TO PROGRAM 'id'", "CREATE ROLE evil", "SELECT pg_read_file('/etc/passwd')"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            as_role("airflow", "airflow", statement)
    for name in ("airflow", "mlflow"):
        run(running, "postgres", f"DROP DATABASE {name} WITH (FORCE)")

"""One PostgreSQL role per database: it owns the database and everything in it, and may do nothing elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

Connect = Callable[[str], AbstractContextManager[Any]]

# Tables come before sequences: those of a table's columns follow their table, and cannot change their owner alone.
_OTHERS_OBJECTS = """
SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END,
       oid::regclass::text
FROM pg_class c
WHERE relkind IN ('r', 'p', 'v', 'm', 'S') AND relnamespace = 'public'::regnamespace AND relowner <> %(role)s::regrole
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                  AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i'))
UNION ALL
SELECT 'TYPE', oid::regtype::text FROM pg_type
WHERE typtype IN ('d', 'e') AND typnamespace = 'public'::regnamespace AND typowner <> %(role)s::regrole
"""


def ensure_role(connect: Connect, role: str, *, password: str | None = None) -> None:
    """Creates a role that may log in and nothing else, or takes all further attributes from an existing one.

    Args:
        connect: opens a connection to a database as the superuser, in autocommit mode.
        role: the role's name.
        password: its password; without one it is identified by other means.
    """
    from psycopg2 import sql

    with connect("postgres") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", [role])
        name = sql.Identifier(role)
        if cursor.fetchone() is None:
            cursor.execute(sql.SQL("CREATE ROLE {}").format(name))
        plain = sql.SQL("ALTER ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS")
        cursor.execute(plain.format(name))
        if password is not None:
            cursor.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, sql.Literal(password)))


def give_database(connect: Connect, database: str, role: str) -> None:
    """Makes a role the owner of a database and of everything in it; other roles can no longer connect to it.

    Objects change their owner one by one, so that a running platform is never blocked for long.

    Args:
        connect: as for `ensure_role`.
        database: the name of an existing database.
        role: the name of an existing role.
    """
    from psycopg2 import sql

    with connect(database) as connection, connection.cursor() as cursor:
        given = {"database": sql.Identifier(database), "role": sql.Identifier(role)}
        cursor.execute(sql.SQL("ALTER DATABASE {database} OWNER TO {role}").format(**given))
        cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {database} FROM PUBLIC").format(**given))
        cursor.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        cursor.execute(sql.SQL("GRANT ALL ON SCHEMA public TO {role}").format(**given))
        cursor.execute(_OTHERS_OBJECTS, {"role": sql.Identifier(role).as_string(connection)})
        for kind, name in cursor.fetchall():  # PostgreSQL has quoted the names
            cursor.execute(sql.SQL(f"ALTER {kind} {name} OWNER TO {{role}}").format(**given))


def close_shared(connect: Connect) -> None:
    """Keeps roles out of the databases that every PostgreSQL server has."""
    with connect("postgres") as connection, connection.cursor() as cursor:
        for database in ("postgres", "template1"):
            cursor.execute(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")


def existing(connect: Connect, databases: Iterable[str]) -> list[str]:
    """Returns those of the databases that exist.

    Args:
        connect: connects to a database by its name, as a superuser.
        databases: names.
    """
    with connect("postgres") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database WHERE datname = ANY(%s)", [list(databases)])
        return [str(row[0]) for row in cursor.fetchall()]

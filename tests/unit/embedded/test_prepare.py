"""A migration changes a copy: whatever interrupts it, the database is whole, old or new."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from kommuna.embedded.prepare import migrate_copy


def rows(database: Path) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(database)
    try:
        return connection.execute("SELECT * FROM things ORDER BY 1").fetchall()
    finally:
        connection.close()


def add_column(database: Path) -> None:
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("ALTER TABLE things ADD COLUMN more TEXT DEFAULT 'new'")
    connection.commit()
    connection.close()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "airflow.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE things (id INTEGER)")
    connection.execute("INSERT INTO things VALUES (1)")
    connection.commit()
    connection.close()
    return path


def test_a_migrated_copy_takes_the_databases_place(database: Path) -> None:
    migrate_copy(database, add_column)
    assert rows(database) == [(1, "new")]
    assert [path.name for path in database.parent.iterdir()] == ["airflow.db"]


def test_what_still_stands_in_the_write_ahead_log_is_copied_too(database: Path) -> None:
    holder = sqlite3.connect(database)  # an open reader keeps the log from being folded into the database
    holder.execute("PRAGMA journal_mode=WAL")
    holder.execute("INSERT INTO things VALUES (2)")
    holder.commit()
    assert Path(f"{database}-wal").stat().st_size > 0
    migrate_copy(database, add_column)
    holder.close()
    assert rows(database) == [(1, "new"), (2, "new")]


def test_an_interrupted_migration_leaves_the_old_database_and_the_next_one_starts_anew(database: Path) -> None:
    def interrupted(partial: Path) -> None:
        add_column(partial)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        migrate_copy(database, interrupted)
    assert rows(database) == [(1,)]
    migrate_copy(database, add_column)
    assert rows(database) == [(1, "new")]


def test_without_a_database_the_work_begins_with_none(tmp_path: Path) -> None:
    def create(partial: Path) -> None:
        assert not partial.exists()
        sqlite3.connect(partial).executescript("CREATE TABLE things (id INTEGER); INSERT INTO things VALUES (7)")

    migrate_copy(tmp_path / "mlflow.db", create)
    assert rows(tmp_path / "mlflow.db") == [(7,)]

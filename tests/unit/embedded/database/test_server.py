"""The server: who may connect, recovery after a kill, and data of other versions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from kommuna.embedded.database import databases, server
from kommuna.embedded.sockets import sockets_folder
from kommuna.errors import PlatformFault

if TYPE_CHECKING:
    from tests.unit.embedded.database.conftest import Start

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")


def query(state: Path, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
    with databases.connected(state, database) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_it_answers_on_a_socket_only(running: Path) -> None:
    assert query(running, "SHOW listen_addresses") == [("",)]
    assert (sockets_folder(running) / f".s.PGSQL.{server.PORT}").is_socket()
    pid = int((server.folder(running) / str(max(server.programs())) / "postmaster.pid").read_text().split()[0])
    assert psutil.Process(pid).net_connections("inet") == []


def test_settings_of_the_user_for_postgres_have_no_effect(running: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGHOST", "elsewhere.example")
    monkeypatch.setenv("PGUSER", "somebody")
    assert query(running, "SELECT current_user") == [("kommuna",)]


def test_sqlalchemy_reaches_it_with_both_drivers_of_airflow(running: Path) -> None:
    import asyncio

    from sqlalchemy import create_engine, text
    from sqlalchemy.ext.asyncio import create_async_engine

    databases.change_copy(running, "airflow", lambda _copy: None, text="")
    engine = create_engine(databases.url(running, "airflow"))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT current_user")).scalar() == "airflow"
    engine.dispose()

    async def ask() -> object:
        asynchronous = create_async_engine(databases.url(running, "airflow", driver="asyncpg"))
        async with asynchronous.connect() as connection:
            found = (await connection.execute(text("SELECT current_user"))).scalar()
        await asynchronous.dispose()
        return found

    assert asyncio.run(ask()) == "airflow"


def test_text_is_in_the_order_of_code_points_and_cyrillic_has_lower_case(running: Path) -> None:
    assert query(running, "SELECT lower('ЯЩИК'), 'Z' < 'a', 'я' < 'ё'") == [("ящик", True, True)]


@needs_root
def test_another_user_cannot_connect_even_if_the_folder_is_accessible(running: Path) -> None:
    code = f"""
import os, psycopg2
os.setgroups([]); os.setgid(65534); os.setuid(65534)
psycopg2.connect(host={str(sockets_folder(running))!r}, port={server.PORT}, user="kommuna", dbname="postgres")
"""
    attempt = [sys.executable, "-c", code]
    assert "Permission denied" in subprocess.run(attempt, capture_output=True, text=True, check=False).stderr
    socket = sockets_folder(running) / f".s.PGSQL.{server.PORT}"
    mode = socket.stat().st_mode
    try:
        sockets_folder(running).chmod(0o755)
        socket.chmod(0o777)
        said = subprocess.run(attempt, capture_output=True, text=True, check=False).stderr
    finally:
        sockets_folder(running).chmod(0o700)
        socket.chmod(mode)
    assert "Peer authentication failed" in said


def test_committed_data_survives_a_kill(start: Start, tmp_path: Path) -> None:
    server.make(tmp_path)
    process = start(tmp_path)
    query(tmp_path, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS id")
    children = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert psutil.wait_procs(children, timeout=30)[1] == []  # they notice it, and let go of the memory they shared
    assert not databases.answers(tmp_path)
    start(tmp_path)
    assert query(tmp_path, "SELECT count(*) FROM kept") == [(1000,)]


def test_an_orphaned_server_is_shut_down_cleanly(start: Start, tmp_path: Path) -> None:
    server.make(tmp_path)
    process = start(tmp_path)
    with databases.connected(tmp_path):  # a client does not hold it up
        server.stop_orphan(tmp_path)
    process.wait(timeout=10)
    assert "database system is shut down" in (tmp_path / "postgres.log").read_text()


def test_a_pid_that_another_process_has_now_is_not_taken_for_a_server(start: Start, tmp_path: Path) -> None:
    server.make(tmp_path)
    lock = server.folder(tmp_path) / str(max(server.programs())) / "postmaster.pid"
    lock.write_text(f"{os.getpid()}\n{lock.parent}\n")
    server.stop_orphan(tmp_path)
    assert not lock.exists()
    start(tmp_path)


@pytest.mark.slow
def test_data_of_an_older_version_is_migrated_even_after_a_kill(start: Start, tmp_path: Path) -> None:
    old, new = min(server.programs()), max(server.programs())
    assert old < new
    here = server.folder(tmp_path)
    here.mkdir()
    server.make_sockets_folder(tmp_path)
    server._finish(server._initdb(tmp_path, old, "--locale-provider=libc"), here / str(old))
    options = f"-k {sockets_folder(tmp_path)} -h '' -p {server.PORT}"
    server._run(tmp_path, old, "pg_ctl", "-D", str(here / str(old)), "-o", options, "-l", "/dev/null", "-w", "start")
    with databases.connected(tmp_path) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE airflow")
        cursor.execute("COMMENT ON DATABASE airflow IS 'as prepared'")
    query(tmp_path, "CREATE TABLE runs AS SELECT generate_series(1, 7) AS id", "airflow")
    server._run(tmp_path, old, "pg_ctl", "-D", str(here / str(old)), "-m", "immediate", "-w", "stop")

    server.make(tmp_path)
    assert sorted(path.name for path in here.iterdir() if path.is_dir()) == [str(new)]
    start(tmp_path)
    assert query(tmp_path, "SELECT count(*) FROM runs", "airflow") == [(7,)]
    assert databases.note(tmp_path, "airflow") == "as prepared"


def test_data_of_an_unreadable_version_is_kept(tmp_path: Path) -> None:
    here = server.folder(tmp_path)
    (here / "99").mkdir(parents=True)
    with pytest.raises(PlatformFault, match="the databases were made by PostgreSQL 99, and this Kommuna has") as caught:
        server.make(tmp_path)
    assert f"move the folder {here} away" in caught.value.fix
    assert [path.name for path in here.iterdir() if path.is_dir()] == ["99"]


def test_an_interrupted_creation_of_a_data_folder_is_repeated(tmp_path: Path) -> None:
    partial = server.folder(tmp_path) / f"{max(server.programs())}.partial"
    partial.mkdir(parents=True)
    (partial / "PG_VERSION").write_text("cut off")
    server.make(tmp_path)
    assert [path.name for path in server.folder(tmp_path).iterdir() if path.is_dir()] == [str(max(server.programs()))]


def test_the_error_of_a_failed_program_contains_its_output(tmp_path: Path) -> None:
    server.folder(tmp_path).mkdir()
    with pytest.raises(PlatformFault, match=r"initdb failed \(exit code 1\)") as caught:
        server._run(tmp_path, max(server.programs()), "initdb", "-D", "/proc/no/such")
    assert "could not create directory" in caught.value.fix

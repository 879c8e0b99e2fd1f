"""The embedded platform: two side by side, kills and changes of settings, and a process that cannot start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from kommuna.embedded import Embedded
from kommuna.embedded.database import databases, server
from kommuna.embedded.leftovers import marked
from kommuna.embedded.prepare import wanted
from kommuna.errors import PlatformFault
from kommuna.spec.installation import find_installation

if TYPE_CHECKING:
    from tests.integration.platform.conftest import Site


@pytest.fixture
def other(tmp_path: Path, root: Path, free_port: Callable[[], int]) -> Iterator[Site]:
    """A second platform, which is not running; its folder's name has a space, `#` and a percent sign."""
    from tests.integration.platform.conftest import make_site

    made = make_site(tmp_path / "other #2 100%", root, free_port)
    yield made
    made.embedded.down()


def supervisord_of(platform: Embedded) -> psutil.Process:
    return psutil.Process(int((platform.state / "supervisord.pid").read_text()))


def test_every_process_of_the_platform_carries_its_mark(site: Site) -> None:
    supervisord = supervisord_of(site.embedded)
    own = {supervisord.pid, *(process.pid for process in supervisord.children(recursive=True))}
    found = {process.pid for process in marked(str(site.embedded.state))}
    # Those that end or start meanwhile aside: none that stands is missed, be it renamed by setproctitle or not.
    assert {pid for pid in own - found if psutil.pid_exists(pid)} == set()
    assert len(found) > 6


def test_up_after_a_change_of_kommuna_yaml_reports_that_the_old_settings_are_running(site: Site) -> None:
    path = site.root / "kommuna.yaml"
    text = path.read_text()
    path.write_text(text.replace("  support:\n", "  support:\n    pools: {default: 3}\n", 1))
    try:
        with pytest.raises(PlatformFault, match=r"runs with an older kommuna\.yaml"):
            Embedded(find_installation(site.root)).up()
    finally:
        path.write_text(text)
    assert Embedded(find_installation(site.root)).up().already_running


def test_two_platforms_do_not_disturb_each_other_and_one_recovers_from_a_killed_supervisord(
    site: Site, other: Site
) -> None:
    platform = other.embedded
    assert not platform.up().already_running
    log = platform.state / "logs/airflow-prepare.log"
    prepared = log.stat().st_mtime_ns
    before = {process.name: process.pid for process in platform.status()}
    supervisord_of(platform).send_signal(signal.SIGKILL)
    # As after a reboot: the files say that it runs, and the processes, if any are left, are nobody's.
    assert not platform.up().already_running
    assert not set(before.values()) & {process.pid for process in marked(str(platform.state))}
    assert log.stat().st_mtime_ns == prepared, "an unchanged database was prepared again"
    assert {process.restarts for process in platform.status()} == {0}
    assert platform.memory() > sum(process.memory for process in platform.status()) // 2
    for one in (site.embedded, platform):
        assert one.healthy()
    assert platform.down()
    assert marked(str(platform.state)) == []
    ports = platform.installation.platform.ports
    for port in (ports.airflow, ports.mlflow):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    assert site.embedded.healthy()


def test_a_process_that_cannot_start_is_reported_with_the_end_of_its_log(other: Site) -> None:
    state = other.embedded.state

    def damage(copy: str) -> None:
        with databases.connected(state, copy) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE alembic_version (version_num text)")
            cursor.execute("INSERT INTO alembic_version VALUES ('of another world')")

    state.mkdir()
    server.make(state)
    with (state / "log").open("w") as log:
        process = subprocess.Popen(server.command(state), stdout=log, stderr=log)
    databases.wait_until_ready(state, lambda: None)
    databases.change_copy(state, "mlflow", damage, text=wanted(other.embedded.installation, "mlflow"))
    server.stop_orphan(state)
    process.wait(timeout=30)
    with pytest.raises(PlatformFault, match="mlflow does not start: it died") as caught:
        other.embedded.up()
    assert "of another world" in caught.value.fix
    assert caught.value.where == str(state / "logs/mlflow.log")
    assert [process for process in marked(str(state)) if process.pid != os.getpid()] == []

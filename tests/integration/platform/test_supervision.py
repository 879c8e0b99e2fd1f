"""Supervision checks the work, not the process: a hanging scheduler, a server that refuses, a full disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from kommuna.embedded.loopback import call
from kommuna.embedded.settings import mlflow_url
from kommuna.embedded.supervision import ProcessState
from kommuna.embedded.watch import Watch, watch_round
from kommuna.waiting import wait_until

if TYPE_CHECKING:
    from tests.integration.platform.conftest import Site

KOMMUNA = str(Path(sys.executable).with_name("kommuna"))


def process(site: Site, name: str) -> ProcessState:
    return next(process for process in site.embedded.status() if process.name == name)


def test_a_hanging_scheduler_is_reported_and_restarted(site: Site) -> None:
    before = process(site, "scheduler")
    assert before.state == "running"
    family = [psutil.Process(before.pid), *psutil.Process(before.pid).children(recursive=True)]
    for member in family:
        member.send_signal(signal.SIGSTOP)
    wait_until(
        "the scheduler is said to be silent",
        lambda: process(site, "scheduler").trouble.startswith("no heartbeat for "),
        seconds=240,
    )
    assert process(site, "scheduler").state == "running"  # its process is there
    told = json.loads(site.kommuna("status", "--json").stdout)
    assert "no heartbeat" in next(p["trouble"] for p in told["processes"] if p["name"] == "scheduler")
    watch = Watch(silence_seconds=20)  # as the platform's own, which waits longer

    def restarted() -> bool:
        watch_round(watch, site.embedded.installation)
        return process(site, "scheduler").pid not in (0, before.pid)

    wait_until("it is restarted", restarted, seconds=240)
    wait_until("all is healthy", site.embedded.healthy, seconds=240)
    assert process(site, "scheduler").restarts == before.restarts + 1
    assert not any(psutil.pid_exists(member.pid) and member.is_running() for member in family)


def test_a_killed_server_is_never_reported_as_running_while_it_refuses(site: Site) -> None:
    url = f"{mlflow_url(site.embedded.installation)}/health"
    parent = psutil.Process(process(site, "mlflow").pid)
    for member in (parent, *parent.children(recursive=True)):  # a worker would answer a little longer
        member.kill()
    refused = 0

    def answers() -> bool:
        nonlocal refused
        before = call(url)
        told = process(site, "mlflow")
        if before is None and call(url) is None:
            refused += 1
            assert told.state != "running" or told.trouble == f"does not answer at {url}"
        return before is not None

    wait_until("the server answers again", answers, seconds=240, every=0)
    assert refused
    wait_until("all is healthy", site.embedded.healthy, seconds=240)


@pytest.fixture
def other(tmp_path: Path, root: Path, free_port: Callable[[], int]) -> Iterator[Site]:
    """A second platform, which is not running."""
    from tests.integration.platform.conftest import make_site

    made = make_site(tmp_path / "other", root, free_port)
    yield made
    made.embedded.down()


@pytest.mark.timeout(900)
def test_of_two_concurrent_starts_one_waits_and_an_earlier_database_is_reported(other: Site) -> None:
    earlier = other.embedded.state / "airflow/airflow.db"
    earlier.parent.mkdir(parents=True)
    earlier.write_bytes(b"SQLite format 3\0")
    starts = [
        subprocess.Popen([KOMMUNA, "up"], cwd=other.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    wait_until("the other one is busy", other.embedded.is_busy, seconds=240)
    assert "A start or a stop of the platform is in progress." in other.kommuna("status").stdout
    outputs = sorted((start.communicate()[0] for start in starts), key=lambda text: "Already running." in text)
    assert [start.returncode for start in starts] == [0, 0]
    first, second = outputs
    assert "Running.\n" in first
    told = f"{earlier} is the SQLite database of an earlier Kommuna. It is kept"
    assert "".join(told.split()) in "".join(first.split())  # lines are folded
    assert "waiting for another start or stop of this platform" in second
    assert "Already running." in second
    assert earlier.read_bytes() == b"SQLite format 3\0"


@pytest.fixture
def small(tmp_path: Path, root: Path, free_port: Callable[[], int]) -> Iterator[tuple[Site, Path]]:
    """A platform that is not running, on a disk of 600 MiB."""
    from tests.integration.platform.conftest import make_site

    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600m", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a small disk (root): {mounted.stderr.strip()}")
    made = make_site(disk / "site", root, free_port)
    yield made, disk
    made.embedded.down()
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.timeout(900)
def test_supervision_survives_a_full_disk_and_everything_continues_once_there_is_space(
    small: tuple[Site, Path],
) -> None:
    site, disk = small
    platform = site.embedded
    platform.up()
    supervisor = int((platform.state / "supervisord.pid").read_text())
    filler = disk / "filler"
    subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=4k"], capture_output=True, check=False)
    assert subprocess.run(["cp", "/etc/passwd", str(disk)], capture_output=True, check=False).returncode != 0
    os.kill(process(site, "mlflow").pid, signal.SIGKILL)
    end = time.monotonic() + 40
    while time.monotonic() < end:
        subprocess.run(["dd", "if=/dev/zero", f"of={filler}2", "bs=4k"], capture_output=True, check=False)
        assert psutil.pid_exists(supervisor)
        assert len(platform.status()) == 7
        time.sleep(1)
    for path in disk.glob("filler*"):
        path.unlink()
    wait_until("all is healthy", platform.healthy, seconds=400)
    assert int((platform.state / "supervisord.pid").read_text() or supervisor) == supervisor
    assert platform.up().already_running
    variable = {"key": "support__after", "value": "all is well", "team_name": "support"}
    posted = site.api("support").request("POST", "/variables", json=variable)
    assert posted.ok, posted.text

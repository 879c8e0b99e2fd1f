"""The embedded platform's processes: they are restarted, distinguished, and removed completely."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kommuna.embedded.leftovers import marked
from kommuna.waiting import wait_until

if TYPE_CHECKING:
    from tests.integration.platform.conftest import Site


def pid_of(site: Site, name: str) -> int:
    return next((process.pid for process in site.embedded.status() if process.name == name), 0)


def wait_until_steady(site: Site, *, seconds: float = 180) -> None:
    """Waits until the same processes have been healthy for 15 seconds.

    One look is not enough: Airflow's scheduler finds out that its database was away some seconds later, and ends itself.
    """
    since, unhealthy, processes = time.monotonic(), "", dict[str, int]()

    def is_steady() -> bool:
        nonlocal since, unhealthy, processes
        unhealthy = next(site.embedded._unhealthy(), "")
        now = {process.name: process.pid for process in site.embedded.status()}
        if unhealthy or now != processes:
            since, processes = time.monotonic(), now
        return time.monotonic() - since > 15

    def late() -> AssertionError:
        return AssertionError(f"not steady: {unhealthy}; {processes}")

    wait_until("the platform is steady", is_steady, seconds=seconds, late=late)


def test_a_second_up_reports_that_the_platform_is_already_running(site: Site) -> None:
    before = pid_of(site, "scheduler")
    done = site.kommuna("up")
    assert done.returncode == 0
    assert "Already running." in done.stdout
    assert site.embedded.access.passwords["support"] in done.stdout
    assert pid_of(site, "scheduler") == before


@pytest.mark.parametrize("name", ["mlflow", "scheduler", "postgres"])
def test_a_killed_process_is_restarted(site: Site, name: str) -> None:
    before = pid_of(site, name)
    os.kill(before, signal.SIGKILL)
    wait_until_steady(site)
    assert pid_of(site, name) not in (0, before)
    # What the killed one had started is gone with it.
    own = {process.pid for process in marked(str(site.embedded.state), program=name)}
    import psutil

    family = {pid_of(site, name), *(child.pid for child in psutil.Process(pid_of(site, name)).children(recursive=True))}
    assert own <= family


def test_status_names_every_process(site: Site) -> None:
    done = site.kommuna("status")
    assert done.returncode == 0, done.stdout
    for name in ("api-server", "dag-processor", "mlflow", "postgres", "scheduler", "triggerer", "watch"):
        assert name in done.stdout


def test_status_gives_addresses_and_logins_and_where_passwords_are(site: Site) -> None:
    done, access = site.kommuna("status"), site.embedded.access
    assert f"Airflow {access.airflow}   MLflow {access.mlflow}" in done.stdout
    assert "support (support)" in done.stdout
    assert "admin (all teams)" in done.stdout
    told = json.loads(site.kommuna("status", "--json").stdout)
    assert (told["running"], told["airflow"], told["mlflow"]) == (True, access.airflow, access.mlflow)
    assert {login["login"]: login["team"] for login in told["logins"]}["support"] == "support"
    assert json.loads(Path(told["passwords"]).read_text())["support"] == access.passwords["support"]
    assert access.passwords["support"] not in done.stdout + json.dumps(told)
    assert {process["trouble"] for process in told["processes"]} == {""}


@pytest.fixture
def other(tmp_path: Path, root: Path, free_port: Callable[[], int]) -> Iterator[Site]:
    """A second platform, which is not running."""
    from tests.integration.platform.conftest import make_site

    made = make_site(tmp_path / "other", root, free_port)
    yield made
    made.kommuna("down")


def test_the_error_for_a_taken_port_names_the_process(other: Site) -> None:
    port = other.embedded.installation.platform.ports.mlflow
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        done = other.kommuna("up")
    assert done.returncode == 1
    assert f"port {port}, which mlflow needs, is taken by process {os.getpid()}" in done.stderr
    assert "set ports.mlflow in kommuna.yaml" in done.stderr
    assert marked(str(other.embedded.state)) == []


def test_ctrl_c_in_the_middle_of_the_start_leaves_no_process(other: Site) -> None:
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("kommuna")), "up"],
        cwd=other.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    state = str(other.embedded.state)
    wait_until("it starts", lambda: marked(state, program="scheduler"), every=0.2)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=120) != 0
    assert marked(str(other.embedded.state)) == []
    ports = other.embedded.installation.platform.ports
    for port in (ports.airflow, ports.mlflow):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))


def test_processes_of_a_killed_supervisord_are_ended(other: Site) -> None:
    assert other.kommuna("up").returncode == 0
    supervisord = int((other.embedded.state / "supervisord.pid").read_text())
    os.kill(supervisord, signal.SIGKILL)
    assert len(marked(str(other.embedded.state))) > 3
    told = other.kommuna("status")
    assert told.returncode == 1
    assert "The platform's supervisor is gone, but " in told.stdout
    assert other.kommuna("down").returncode == 0
    assert marked(str(other.embedded.state)) == []


def test_no_process_remains_after_down(other: Site) -> None:
    assert other.kommuna("down").stdout.strip() == "Not running."

"""Waits until the platform is healthy, or reports the process that is not, with the end of its log."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil

from kommuna.embedded import launch, supervision
from kommuna.embedded.liveness import check_liveness
from kommuna.embedded.loopback import call
from kommuna.embedded.settings import airflow_url, program_names, state_folder
from kommuna.errors import PlatformFault
from kommuna.spec.installation import Installation
from kommuna.waiting import wait_until

HEALTH_SECONDS = 300.0  # measured: 12 on two idle cores, 130 on two busy ones
_STARTS = 3
_LINES = 12


def wait_healthy(
    installation: Installation, *, seconds: float = HEALTH_SECONDS, before: Mapping[str, int] = MappingProxyType({})
) -> None:
    """Waits until every process answers or has sent a heartbeat.

    Args:
        installation: the platform.
        seconds: the longest wait.
        before: the starts of each process before this wait, which do not count.

    Raises:
        PlatformFault: a process died three times, supervisord is gone, or the time is up. The error names the process
            and contains the last lines of its log.
    """
    state = state_folder(installation)
    missing = ""

    def healthy() -> bool:
        nonlocal missing
        missing = next(unhealthy(installation), "")
        if missing:
            raise_if_dead(state, before)
        return not missing

    def late() -> PlatformFault:
        return failed_start(state, missing, f"{missing} was not healthy after {seconds:.0f} seconds")

    wait_until("every process is healthy", healthy, seconds=seconds, every=0.2, late=late)


def unhealthy(installation: Installation) -> Iterator[str]:
    """Yields the names of processes that do not run, do not answer, or sent no heartbeat since they were started.

    It also calls Airflow's Execution API, which is built at its first request. This takes 3 seconds, for which the
    first tasks would otherwise wait.
    """
    server = supervision.client(state_folder(installation))
    started = {info["name"]: info["start"] for info in server.getAllProcessInfo() if _runs(info)} if server else {}
    checked = check_liveness(installation, started)
    for name in program_names(installation):
        liveness = checked.get(name)
        # A killed process leaves its last heartbeat in the database: only one of its successor counts.
        stale = liveness is not None and liveness.heartbeat is not None and liveness.heartbeat < started[name]
        if (
            liveness is None
            or liveness.trouble
            or stale
            or (name == "api-server" and not _answers(f"{airflow_url(installation)}/execution/health", seconds=60))
        ):
            yield name


def _runs(info: Mapping[str, Any]) -> bool:
    """Whether a process has been started, and has already cleaned up what its predecessor left."""
    with contextlib.suppress(psutil.Error):
        return info["statename"] == "RUNNING" and launch.__name__ not in psutil.Process(info["pid"]).cmdline()
    return False


def failed_start(state: Path, name: str, what: str) -> PlatformFault:
    """Makes an error that contains the end of a process's log.

    Args:
        state: the platform's state folder, which has the logs.
        name: the process's name, which is also that of its log.
        what: what went wrong, in words.
    """
    log = state / "logs" / f"{name}.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    end = [line[:300] for line in lines if line.strip()][-_LINES:]
    shown = "".join(f"\n      {line}" for line in end) or "\n      (nothing)"
    return PlatformFault(what, where=str(log), fix=f"see the end of its log:{shown}")


def raise_if_dead(state: Path, before: Mapping[str, int] = MappingProxyType({})) -> None:
    """Raises if a process has died too often, or supervisord is gone.

    Args:
        state: the state folder.
        before: the starts of each process before this wait, which do not count.

    Raises:
        PlatformFault: the error contains the end of that process's log.
    """
    server = supervision.client(state)
    if server is None:
        raise failed_start(state, "supervisord", "supervisord died while the platform was starting")
    for info in server.getAllProcessInfo():
        name = info["name"]
        starts = launch.starts_of(state, name) - before.get(name, 0)
        if info["statename"] == "FATAL" or (starts >= _STARTS and info["statename"] != "STOPPED"):
            raise failed_start(state, name, f"{name} does not start: it died {max(starts - 1, 1)} times")


def _answers(url: str, *, seconds: float) -> bool:
    answer = call(url, seconds=seconds)
    return answer is not None and answer.ok

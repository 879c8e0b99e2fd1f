"""Waits until the platform is healthy, or says which process keeps it from that, and what its log says."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil

from kommuna.embedded import launch, supervision
from kommuna.embedded.loopback import call
from kommuna.embedded.settings import airflow_url, program_names, state_folder
from kommuna.embedded.signs import signs
from kommuna.errors import PlatformFault
from kommuna.spec.installation import Installation
from kommuna.waiting import wait_until

HEALTH_SECONDS = 300.0  # 12 on two idle cores, 130 were seen on two busy ones
_STARTS = 3
_LINES = 12


def wait_healthy(
    installation: Installation, *, seconds: float = HEALTH_SECONDS, before: Mapping[str, int] = MappingProxyType({})
) -> None:
    """Returns once every process answers or has given a sign of life.

    Args:
        seconds: longest wait.
        before: how often each process was started before this wait.

    Raises:
        PlatformFault: a process died three times, supervisord is gone, or the time is over. It names the process and
            holds the last lines of its log.
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
    """Names of processes that do not run, do not answer, or have given no sign of life since they were started.

    Asks Airflow's Execution API as well: it builds itself at its first request, for 3 seconds of work, and would else
    do so while the first tasks wait for it.
    """
    server = supervision.client(state_folder(installation))
    started = {info["name"]: info["start"] for info in server.getAllProcessInfo() if _runs(info)} if server else {}
    heard = signs(installation, started)
    for name in program_names(installation):
        sign = heard.get(name)
        # A killed process leaves its last sign of life in the database: only what its successor gives counts.
        stale = sign is not None and sign.heartbeat is not None and sign.heartbeat < started[name]
        if (
            sign is None
            or sign.trouble
            or stale
            or (name == "api-server" and not _answers(f"{airflow_url(installation)}/execution/health", seconds=60))
        ):
            yield name


def _runs(info: Mapping[str, Any]) -> bool:
    """Whether supervisord has started a process, and it has cleared away what its last life left."""
    with contextlib.suppress(psutil.Error):
        return info["statename"] == "RUNNING" and launch.__name__ not in psutil.Process(info["pid"]).cmdline()
    return False


def failed_start(state: Path, name: str, what: str) -> PlatformFault:
    """An error that shows the end of a process's log."""
    log = state / "logs" / f"{name}.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    end = [line[:300] for line in lines if line.strip()][-_LINES:]
    shown = "".join(f"\n      {line}" for line in end) or "\n      (nothing)"
    return PlatformFault(what, where=str(log), fix=f"the end of its log says why:{shown}")


def raise_if_dead(state: Path, before: Mapping[str, int] = MappingProxyType({})) -> None:
    """Raises where a process has died too often, or supervisord is gone.

    Args:
        before: how often each process was started before this wait.

    Raises:
        PlatformFault: with the end of that process's log.
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

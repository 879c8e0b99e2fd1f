"""Waits until the platform is healthy, or says which process keeps it from that, and what its log says."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from kommuna.embedded import launch, supervision
from kommuna.embedded.loopback import call
from kommuna.embedded.settings import airflow_url, mlflow_url, state_folder
from kommuna.errors import PlatformFault
from kommuna.spec.installation import Installation

HEALTH_SECONDS = 300.0  # 12 on two idle cores, 130 were seen on two busy ones
_STARTS = 3
_LINES = 12
_HEARTBEATS = {
    "scheduler": ("scheduler", "latest_scheduler_heartbeat"),
    "dag-processor": ("dag_processor", "latest_dag_processor_heartbeat"),
    "triggerer": ("triggerer", "latest_triggerer_heartbeat"),
}


def wait_healthy(installation: Installation, *, seconds: float = HEALTH_SECONDS) -> None:
    """Returns once every process answers or has given a sign of life.

    Args:
        seconds: longest wait.
    Raises:
        PlatformFault: a process died three times, supervisord is gone, or the time is over. It names the process and
            holds the last lines of its log.
    """
    state = state_folder(installation)
    deadline = time.monotonic() + seconds
    while missing := next(unhealthy(installation), ""):
        raise_if_dead(state)
        if time.monotonic() > deadline:
            raise failed_start(state, missing, f"{missing} was not healthy after {seconds:.0f} seconds")
        time.sleep(0.2)


def unhealthy(installation: Installation) -> Iterator[str]:
    """Names of processes that do not run, do not answer, or have given no sign of life since they were started.

    Asks Airflow's Execution API as well: it builds itself at its first request, for 3 seconds of work, and would else
    do so while the first tasks wait for it.
    """
    server = supervision.client(state_folder(installation))
    started = {info["name"]: info["start"] for info in server.getAllProcessInfo() if _runs(info)} if server else {}
    airflow = airflow_url(installation)
    answer = call(f"{airflow}/api/v2/monitor/health", seconds=5) if "api-server" in started else None
    if answer is None or not answer.ok or not _answers(f"{airflow}/execution/health", seconds=60):
        yield "api-server"
    for name, (part, heartbeat) in _HEARTBEATS.items():
        known = answer.json().get(part) or {} if answer is not None and answer.ok else {}
        last = known.get(heartbeat)
        # A killed process leaves its last sign of life in the database: only what its successor gives counts.
        fresh = name in started and last is not None and datetime.fromisoformat(last).timestamp() >= started[name]
        if known.get("status") != "healthy" or not fresh:
            yield name
    if not installation.platform.mlflow and not (
        "mlflow" in started and _answers(f"{mlflow_url(installation)}/health", seconds=5)
    ):
        yield "mlflow"


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
    return PlatformFault(what, where=str(log), mend=f"the end of its log says why:{shown}")


def raise_if_dead(state: Path) -> None:
    """Raises where a process has died too often, or supervisord is gone.

    Raises:
        PlatformFault: with the end of that process's log.
    """
    server = supervision.client(state)
    if server is None:
        raise failed_start(state, "supervisord", "supervisord died while the platform was starting")
    for info in server.getAllProcessInfo():
        name, starts = info["name"], launch.starts_of(state, info["name"])
        if info["statename"] == "FATAL" or (starts >= _STARTS and info["statename"] != "STOPPED"):
            raise failed_start(state, name, f"{name} does not start: it died {max(starts - 1, 1)} times")


def _answers(url: str, *, seconds: float) -> bool:
    answer = call(url, seconds=seconds)
    return answer is not None and answer.ok

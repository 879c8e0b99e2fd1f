"""Checks whether each process of the platform answers, or how old its last heartbeat is.

A pid proves little: a scheduler whose loop has ended still has one, and so has a server that is being restarted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kommuna.embedded.database import databases
from kommuna.embedded.database.server import PROGRAM as POSTGRES
from kommuna.embedded.loopback import Answer, call
from kommuna.embedded.settings import airflow_url, mlflow_url, state_folder
from kommuna.spec.installation import Installation

_HEARTBEATS = {
    "scheduler": ("scheduler", "latest_scheduler_heartbeat"),
    "dag-processor": ("dag_processor", "latest_dag_processor_heartbeat"),
    "triggerer": ("triggerer", "latest_triggerer_heartbeat"),
}


@dataclass(frozen=True)
class Liveness:
    """The liveness of a process.

    Attributes:
        name: the program's name.
        trouble: a description of what is wrong; "" if nothing is.
        heartbeat: the time of its last heartbeat (seconds since the epoch); None for a server that is called.
        known: False if the process that would report on this one is itself unavailable.
    """

    name: str
    trouble: str = ""
    heartbeat: float | None = None
    known: bool = True


def check_liveness(installation: Installation, names: Iterable[str], *, seconds: float = 5) -> dict[str, Liveness]:
    """Checks the named processes in parallel.

    Args:
        installation: the platform.
        names: the processes to check. One that cannot be checked counts as live.
        seconds: the longest wait for an answer.
    """
    checks: dict[str, Callable[[], Liveness]] = {
        POSTGRES: lambda: _postgres(installation),
        "mlflow": lambda: _server("mlflow", f"{mlflow_url(installation)}/health", seconds),
    }
    wanted = list(names)
    airflow = f"{airflow_url(installation)}/api/v2/monitor/health"
    with ThreadPoolExecutor() as pool:
        health = pool.submit(call, airflow, seconds=seconds)
        others = {name: pool.submit(checks[name]) for name in wanted if name in checks}
        answer = health.result()
        found = {name: other.result() for name, other in others.items()}
    for name in wanted:
        if name == "api-server":
            found[name] = _check_answer(name, airflow, answer)
        elif name in _HEARTBEATS:
            found[name] = _heartbeat(name, answer)
    return {name: found.get(name, Liveness(name)) for name in wanted}


def _postgres(installation: Installation) -> Liveness:
    return Liveness(POSTGRES, "" if databases.answers(state_folder(installation)) else "does not answer")


def _server(name: str, url: str, seconds: float) -> Liveness:
    return _check_answer(name, url, call(url, seconds=seconds))


def _check_answer(name: str, url: str, answer: Answer | None) -> Liveness:
    if answer is None:
        return Liveness(name, f"does not answer at {url}")
    return Liveness(name, "" if answer.ok else f"answers {answer.status} at {url}")


def _heartbeat(name: str, answer: Answer | None) -> Liveness:
    """Reads a process's heartbeat from Airflow's server, which has it from the database."""
    if answer is None or not answer.ok:
        return Liveness(name, "unknown: Airflow's server does not answer", known=False)
    health: dict[str, Any] = answer.json()
    if (health.get("metadatabase") or {}).get("status") != "healthy":
        return Liveness(name, "unknown: Airflow's database does not answer", known=False)
    part, field = _HEARTBEATS[name]
    known: dict[str, Any] = health.get(part) or {}
    if known.get(field) is None:
        return Liveness(name, "has sent no heartbeat")
    last = datetime.fromisoformat(known[field])
    age = (datetime.now(UTC) - last).total_seconds()
    return Liveness(name, "" if known.get("status") == "healthy" else f"no heartbeat for {age:.0f} s", last.timestamp())

"""Signs of life: whether each process of the platform answers, or how long ago it gave its last heartbeat.

That a process is there says little: a scheduler whose loop has ended, and a server that has just been killed and
starts again, both have a pid.
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
class Sign:
    """What was heard of a process.

    Attributes:
        trouble: what is wrong, in words; "" if nothing is.
        heartbeat: when it last gave a sign of life by itself (seconds since the epoch); None for one that is asked.
        known: False where the trouble is another's, by whom this one would be heard of.
    """

    name: str
    trouble: str = ""
    heartbeat: float | None = None
    known: bool = True


def signs(installation: Installation, names: Iterable[str], *, seconds: float = 5) -> dict[str, Sign]:
    """A sign of each of the named processes; all are asked at the same time.

    Args:
        names: processes that should be heard of. One that nobody can ask has no trouble.
        seconds: longest wait for an answer.
    """
    asked: dict[str, Callable[[], Sign]] = {
        POSTGRES: lambda: _postgres(installation),
        "mlflow": lambda: _server("mlflow", f"{mlflow_url(installation)}/health", seconds),
    }
    wanted = list(names)
    airflow = f"{airflow_url(installation)}/api/v2/monitor/health"
    with ThreadPoolExecutor() as pool:
        health = pool.submit(call, airflow, seconds=seconds)
        others = {name: pool.submit(asked[name]) for name in wanted if name in asked}
        answer = health.result()
        found = {name: other.result() for name, other in others.items()}
    for name in wanted:
        if name == "api-server":
            found[name] = _judged(name, airflow, answer)
        elif name in _HEARTBEATS:
            found[name] = _heartbeat(name, answer)
    return {name: found.get(name, Sign(name)) for name in wanted}


def _postgres(installation: Installation) -> Sign:
    return Sign(POSTGRES, "" if databases.answers(state_folder(installation)) else "does not answer")


def _server(name: str, url: str, seconds: float) -> Sign:
    return _judged(name, url, call(url, seconds=seconds))


def _judged(name: str, url: str, answer: Answer | None) -> Sign:
    if answer is None:
        return Sign(name, f"does not answer at {url}")
    return Sign(name, "" if answer.ok else f"answers {answer.status} at {url}")


def _heartbeat(name: str, answer: Answer | None) -> Sign:
    """What Airflow's server says of a process, as it stands in the database."""
    if answer is None or not answer.ok:
        return Sign(name, "not heard of: Airflow's server does not answer", known=False)
    health: dict[str, Any] = answer.json()
    if (health.get("metadatabase") or {}).get("status") != "healthy":
        return Sign(name, "not heard of: Airflow's database does not answer", known=False)
    part, field = _HEARTBEATS[name]
    known: dict[str, Any] = health.get(part) or {}
    if known.get(field) is None:
        return Sign(name, "has given no heartbeat")
    last = datetime.fromisoformat(known[field])
    age = (datetime.now(UTC) - last).total_seconds()
    return Sign(name, "" if known.get("status") == "healthy" else f"no heartbeat for {age:.0f} s", last.timestamp())

"""How much longer one team waits while another team floods the platform: the floods, the probes, and the figures."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import numpy as np

from kommuna.spec.names import qualified
from kommuna.waiting import wait_until

FLOODING, WAITING = "support", "fraud"
SAMPLES = 20
PROBE = """
from airflow.sdk import DAG, task

with DAG("{team}__fair_probe", schedule=None):
    @task
    def one():
        return 1

    one()
"""
PARSED = """
from airflow.sdk import DAG

dag = DAG("{team}__fair_parsed", schedule=None, description="{number}")
"""
QUEUED = """
from airflow.sdk import DAG, task

for number in range(2):
    with DAG(f"{team}__flood_queued{{number}}", schedule=None, max_active_tasks=500):
        @task
        def sleep():
            import time
            time.sleep(120)

        for turn in range(500):
            sleep.override(task_id=f"sleep{{turn}}")()
"""
MAPPED = """
from airflow.sdk import DAG, task

with DAG("{team}__flood_mapped", schedule=None, max_active_tasks=500):
    @task
    def sleep(turn):
        import time
        time.sleep(120)

    for number in range(5):
        sleep.override(task_id=f"sleep{{number}}").expand(turn=list(range(1000)))
"""
CATCHING_UP = """
from datetime import datetime, timedelta
from airflow.sdk import DAG, task

with DAG("{team}__flood_caught_up", schedule="* * * * *", start_date=datetime.now() - timedelta(days=1), catchup=True,
         max_active_runs=100):
    @task
    def sleep():
        import time
        time.sleep(120)

    sleep()
"""
TINY = """
from airflow.sdk import DAG

dag = DAG("{team}__flood_{number}", schedule=None)
"""


@dataclass(frozen=True)
class Flood:
    """What one team does to the platform.

    Attributes:
        files: its DAG files by name.
        triggered: its DAGs that are started by hand.
        parsed: its DAGs do not run: it floods the parser alone.
    """

    files: Mapping[str, str]
    triggered: tuple[str, ...] = ()
    parsed: bool = False


FLOODS = {
    "1,000 queued tasks": Flood({"flood.py": QUEUED.format(team=FLOODING)}, ("flood_queued0", "flood_queued1")),
    "5,000 mapped tasks": Flood({"flood.py": MAPPED.format(team=FLOODING)}, ("flood_mapped",)),
    "a catch-up of 1,440 runs": Flood({"flood.py": CATCHING_UP.format(team=FLOODING)}),
    "2,000 DAG files": Flood(
        {f"flood/flood_{number}.py": TINY.format(team=FLOODING, number=number) for number in range(2000)},
        parsed=True,
    ),
}


class Platform(Protocol):
    """A running platform, as the administrator and both teams use it."""

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Sends a request to Airflow's REST API; returns the response."""

    def publish(self, team: str, files: Mapping[str, str | None]) -> None:
        """Writes files into a team's bundle, and removes those that are None."""


@dataclass
class Waits:
    """Seconds that the waiting team waited: from a trigger to the task's start, and from a change to the parsed DAG."""

    start: list[float] = field(default_factory=list)
    parse: list[float] = field(default_factory=list)


def prepare(platform: Platform) -> None:
    """Publishes the probes, and runs one."""
    platform.publish(WAITING, {"fair_probe.py": PROBE.format(team=WAITING)})
    _probe_parsing(platform, 0)
    _wait_for(platform, qualified(WAITING, "fair_probe"))
    _probe_start(platform)


def measure(platform: Platform, samples: int = SAMPLES) -> Waits:
    """Probes both waits that many times, side by side."""
    waits = Waits()

    def parse() -> None:
        waits.parse.extend(_probe_parsing(platform, number + 1) for number in range(samples))
        _probe_parsing(platform, 0)

    beside = threading.Thread(target=parse)
    beside.start()
    waits.start.extend(_probe_start(platform) for _ in range(samples))
    beside.join()
    return waits


def flooded(platform: Platform, flood: Flood, samples: int = SAMPLES) -> Waits:
    """Measures while the flood runs, and removes it."""
    platform.publish(FLOODING, flood.files)
    try:
        for dag in flood.triggered:
            _wait_for(platform, qualified(FLOODING, dag))
            _trigger(platform, qualified(FLOODING, dag))
        if not flood.triggered:  # it begins with its first parsed file
            wait_until("the flood has begun", lambda: _flood_dags(platform), seconds=300)
        waits = measure(platform, samples)
        assert _lasts(platform, flood), "the flood ended before the last probe"
        return waits
    finally:
        platform.publish(FLOODING, dict.fromkeys(flood.files))
        wait_until("the flood is gone", lambda: _removed(platform), seconds=900, every=2)


def compare(quiet: Waits, loud: Waits) -> Iterator[dict[str, Any]]:
    """Yields, for each wait, both medians and their ratio with its 95 % interval by the bootstrap."""
    for name, before, after in (
        ("trigger to start", quiet.start, loud.start),
        ("change to parsed", quiet.parse, loud.parse),
    ):
        low, high = _interval(before, after)
        yield {
            "name": name,
            "quiet": round(statistics.median(before), 2),
            "flooded": round(statistics.median(after), 2),
            "ratio": round(statistics.median(after) / statistics.median(before), 2),
            "interval": [round(low, 2), round(high, 2)],
            "samples": [len(before), len(after)],
        }


def _interval(before: list[float], after: list[float], draws: int = 10_000) -> tuple[float, float]:
    chance = np.random.default_rng(0)
    medians = [np.median(chance.choice(each, (draws, len(each))), axis=1) for each in (before, after)]
    low, high = np.quantile(medians[1] / medians[0], (0.025, 0.975))
    return float(low), float(high)


def _wait_for(platform: Platform, dag: str) -> None:
    """Waits until a DAG is parsed; what is left of a removed one is stale."""

    def parsed() -> bool:
        answer = platform.call("GET", f"/dags/{dag}")
        return bool(answer.ok and not answer.json()["is_stale"])

    wait_until(f"{dag} is parsed", parsed, seconds=300)


def _trigger(platform: Platform, dag: str) -> dict[str, Any]:
    answer = platform.call("POST", f"/dags/{dag}/dagRuns", json={"logical_date": None})
    assert answer.ok, answer.text
    run: dict[str, Any] = answer.json()
    return run


def _probe_start(platform: Platform) -> float:
    dag = qualified(WAITING, "fair_probe")
    run = _trigger(platform, dag)
    path = f"/dags/{dag}/dagRuns/{run['dag_run_id']}/taskInstances/one"
    found: dict[str, Any] = {}

    def started() -> bool:
        answer = platform.call("GET", path)
        found.update(answer.json() if answer.ok else {})
        return bool(found.get("end_date"))

    wait_until("the probe has run", started, seconds=900, every=0.5)
    begun, queued = (datetime.fromisoformat(found["start_date"]), datetime.fromisoformat(run["queued_at"]))
    return (begun - queued).total_seconds()


def _probe_parsing(platform: Platform, number: int) -> float:
    platform.publish(WAITING, {"fair_parsed.py": PARSED.format(team=WAITING, number=number)})
    began, path = time.monotonic(), f"/dags/{WAITING}__fair_parsed"

    def seen() -> bool:
        return bool(platform.call("GET", path).json().get("description") == str(number))

    wait_until("the change is parsed", seen, seconds=1800, every=0.2)
    return time.monotonic() - began


def _flood_dags(platform: Platform) -> list[str]:
    answer = platform.call("GET", "/dags", params={"dag_id_pattern": f"{FLOODING}__flood%", "limit": 100})
    return [dag["dag_id"] for dag in answer.json()["dags"]]


def _lasts(platform: Platform, flood: Flood) -> bool:
    """Whether the flood's runs are not over, or, when it has none, its DAG files are still parsed."""
    dags = _flood_dags(platform)
    active = {"state": ["queued", "running"], "limit": 1}
    return bool(dags) and (
        flood.parsed
        or any(platform.call("GET", f"/dags/{dag}/dagRuns", params=active).json()["dag_runs"] for dag in dags)
    )


def _removed(platform: Platform) -> bool:
    """Deletes the flood's DAGs with their runs, a page at a time; returns whether none is left."""
    dags = _flood_dags(platform)
    for dag in dags:
        if platform.call("DELETE", f"/dags/{dag}").status_code == 409:  # tasks of it are running
            active = {"state": ["queued", "running"], "limit": 100}
            for run in platform.call("GET", f"/dags/{dag}/dagRuns", params=active).json()["dag_runs"]:
                platform.call("PATCH", f"/dags/{dag}/dagRuns/{run['dag_run_id']}", json={"state": "failed"})
    return not dags

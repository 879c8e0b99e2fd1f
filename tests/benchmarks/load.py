"""Load test of the embedded platform: concurrent runs, backfills and users, five times in a row.

`make load` prints a table and fails where the bar is missed: no request over 5 s, none answered 5xx or not at all, every
run a success, the scheduler's heartbeat never older than 30 s. The figures are of a machine that does nothing else.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import requests
from rich.console import Console

from kommuna.cli.tables import print_table
from kommuna.clients.airflow import AirflowApi
from kommuna.embedded import Embedded
from kommuna.embedded.database import databases
from kommuna.spec.installation import find_installation

ROUNDS, RUNS, PEOPLE, BACKFILLS, DAYS = 5, 10, 8, 5, 2
SLOWEST_SECONDS, OLDEST_SECONDS = 5.0, 30.0
THINKING_SECONDS = (0.2, 1.0)
DAG = """
from datetime import datetime

from airflow.sdk import dag, task

def make(dag_id, schedule):
    @dag(dag_id=dag_id, schedule=schedule, start_date=datetime(2026, 1, 1), catchup=False, max_active_runs=16)
    def load():
        @task
        def one():
            return 1

        @task
        def more(value):
            return value + 1

        more(more(one()))

    return load()

for number in range({dags}):
    make(f"load{{number}}", "@daily")
make("load_by_hand", None)
"""


@dataclass
class Measured:
    """What one round was like."""

    seconds: list[float] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    heartbeat_age: float = 0.0
    runs: dict[str, int] = field(default_factory=dict)
    took: float = 0.0
    load: float = 0.0

    @property
    def within(self) -> bool:
        """Whether the bar was met."""
        return (
            not self.bad
            and max(self.seconds) <= SLOWEST_SECONDS
            and self.heartbeat_age <= OLDEST_SECONDS
            and set(self.runs) == {"success"}
        )


class Browser:
    """One person's requests, each measured.

    Args:
        measured: where they are noted.
    """

    def __init__(self, url: str, token: str, measured: Measured) -> None:
        self._url, self._measured = url, measured
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {token}"

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """The answer's JSON, or None where it is bad."""
        began = time.monotonic()
        try:
            answer = self._session.request(method, f"{self._url}{path}", timeout=120, **options)
        except requests.RequestException as error:
            self._measured.bad.append(f"{method} {path}: {type(error).__name__}")
            return None
        finally:
            self._measured.seconds.append(time.monotonic() - began)
        if not answer.ok:
            self._measured.bad.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
            return None
        return answer.json()

    def click_around(self, dag_id: str, until: threading.Event) -> None:
        """Reads what the UI reads on its pages, over and over."""
        chance = random.Random(dag_id)
        while not until.is_set():
            self.ask("GET", "/ui/dags?limit=50&dag_runs_limit=14")
            self.ask("GET", "/api/v2/monitor/health")
            self.ask("GET", f"/api/v2/dags/{dag_id}/details")
            self.ask("GET", f"/ui/grid/structure/{dag_id}?limit=25")
            self.ask("GET", f"/ui/grid/runs/{dag_id}?limit=25")
            page = self.ask("GET", f"/api/v2/dags/{dag_id}/dagRuns?limit=25&order_by=-run_after")
            for run in (page or {}).get("dag_runs", [])[:2]:
                self.ask("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run['dag_run_id']}/taskInstances")
                until.wait(chance.uniform(*THINKING_SECONDS))
            until.wait(chance.uniform(*THINKING_SECONDS))


def measure_round(platform: Embedded, number: int) -> Measured:
    """Everything at once, until every run is over."""
    measured, over = Measured(load=os.getloadavg()[0]), threading.Event()
    url, began = platform.access.airflow, time.monotonic()
    by_hand = "support__load_by_hand"
    tokens = {login: platform.token(login) for login in ("admin", "support")}
    first = date(2026, 1, 1) + timedelta(days=number * DAYS)
    ids = [f"support__load{i}" for i in range(BACKFILLS)]

    def trigger(turn: int) -> str | None:
        run = f"load-{number}-{turn}"
        body = {"logical_date": None, "dag_run_id": run}
        Browser(url, tokens["support"], measured).ask("POST", f"/api/v2/dags/{by_hand}/dagRuns", json=body)
        return run

    def backfill(dag_id: str) -> None:
        body = {
            "dag_id": dag_id, "from_date": f"{first}T00:00:00Z", "to_date": f"{first + timedelta(days=DAYS - 1)}T00:00:00Z",
            "reprocess_behavior": "none", "max_active_runs": 4, "run_backwards": False, "dag_run_conf": {},
        }  # fmt: skip
        Browser(url, tokens["support"], measured).ask("POST", "/api/v2/backfills", json=body)

    with ThreadPoolExecutor(PEOPLE + RUNS + BACKFILLS + 1) as pool:
        watching = pool.submit(_watch_heartbeat, platform, measured, over)
        people = [
            pool.submit(Browser(url, tokens[login], measured).click_around, dag_id, over)
            for login, dag_id in zip(
                ("admin", "support") * (PEOPLE // 2), (by_hand, *ids, by_hand, by_hand), strict=False
            )
        ]
        jobs = [*(pool.submit(trigger, turn) for turn in range(RUNS)), *(pool.submit(backfill, i) for i in ids)]
        for job in jobs:
            job.result()
        measured.runs = _wait_for_runs(platform, number, first, by_hand, ids)
        over.set()
        for job in (watching, *people):
            job.result()
    measured.took = time.monotonic() - began
    return measured


def _wait_for_runs(platform: Embedded, number: int, first: date, by_hand: str, ids: list[str]) -> dict[str, int]:
    """How many of the runs that were asked for ended in which state; one that is not there is `lost`."""
    deadline, wanted = time.monotonic() + 600, RUNS + BACKFILLS * DAYS
    query = """SELECT state, count(*) FROM dag_run WHERE (dag_id = %s AND run_id LIKE %s)
               OR (dag_id = ANY(%s) AND run_type = 'backfill' AND logical_date BETWEEN %s AND %s) GROUP BY state"""
    open_backfills = "SELECT count(*) FROM backfill WHERE completed_at IS NULL"  # a DAG takes one at a time
    while True:
        with databases.connected(platform.state, "airflow") as connection, connection.cursor() as cursor:
            cursor.execute("SET TIME ZONE 'UTC'")
            cursor.execute(query, [by_hand, f"load-{number}-%", ids, first, first + timedelta(days=DAYS - 1)])
            found = {str(state): int(count) for state, count in cursor.fetchall()}
            cursor.execute(open_backfills)
            backfills = cursor.fetchone()[0]
        ended = found.get("success", 0) + found.get("failed", 0)
        if (ended == wanted and not backfills) or time.monotonic() > deadline:
            lost = wanted - sum(found.values())
            return found | ({"lost": lost} if lost else {})
        time.sleep(0.5)


def _watch_heartbeat(platform: Embedded, measured: Measured, over: threading.Event) -> None:
    query = "SELECT max(latest_heartbeat) FROM job WHERE job_type = 'SchedulerJob' AND state = 'running'"
    while not over.wait(1):
        with databases.connected(platform.state, "airflow") as connection, connection.cursor() as cursor:
            cursor.execute(query)
            age = (datetime.now(UTC) - cursor.fetchone()[0]).total_seconds()
        measured.heartbeat_age = max(measured.heartbeat_age, age)


def rounds() -> Iterator[Measured]:
    """Starts a platform of its own, and yields each round."""
    from tests.benchmarks.platform import _site

    with tempfile.TemporaryDirectory(prefix="kommuna-load-") as name:
        site = _site(Path(name))
        for path in (site / "dags").glob("*/*.py"):
            path.unlink()  # only the small DAGs: the platform is measured, not the steps
        (site / "dags/support/load.py").write_text(DAG.format(dags=BACKFILLS))
        platform = Embedded(find_installation(site))
        try:
            access = platform.up()
            AirflowApi(access.airflow, platform.token()).wait_for_dags(["support__load_by_hand", "support__load0"])
            for number in range(ROUNDS):
                yield measure_round(platform, number)
        finally:
            platform.down()


def results() -> Iterator[dict[str, Any]]:
    """Yields each round's figures."""
    for number, measured in enumerate(rounds()):
        yield {"name": f"round {number + 1}", "within": measured.within, **_figures(measured), "bad": measured.bad[:5]}


def _figures(measured: Measured) -> dict[str, Any]:
    ordered = sorted(measured.seconds)
    return {
        "seconds": round(measured.took, 1), "requests": len(ordered), "median": round(ordered[len(ordered) // 2], 3),
        "p99": round(ordered[int(len(ordered) * 0.99)], 3), "slowest": round(ordered[-1], 3), "bad answers": len(measured.bad),
        "runs": ", ".join(f"{count} {state}" for state, count in measured.runs.items()),
        "oldest heartbeat": round(measured.heartbeat_age, 1), "load before": round(measured.load, 1),
    }  # fmt: skip


def main() -> None:
    """Prints a table; exit 1 where a round missed the bar."""
    lines = list(results())
    columns = [column for column in lines[0] if column != "bad"]
    print_table(Console(), columns, [[line[column] for column in columns] for line in lines])
    for line in lines:
        for bad in line["bad"]:
            print(f"{line['name']}: {bad}")
    sys.exit(0 if all(line["within"] for line in lines) else 1)


if __name__ == "__main__":
    main()

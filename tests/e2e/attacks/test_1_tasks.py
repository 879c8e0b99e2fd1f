"""Attacks by task code: a hostile team's tasks, in worker pods, with the token, the logins and the files that they have."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.e2e.attacks.conftest import MODEL, Hostile, pods_by_address
from tests.e2e.attacks.ledger import Ledger, Line, lines_of
from tests.e2e.installation import CONTROL, Airflow, Installation, Run, wait_until
from tests.e2e.test_1_walls import places  # noqa: F401 (a fixture)

DOORS = {"execution", "mlflow", "store"}
LOG_MEGABYTES = 300
LEAST_LOG = 1_000_000  # bytes of an answer that has the log
MOST_LOG = 32_000_000  # bytes of an answer: its tail, as JSON
MOST_SECONDS = 20.0


@pytest.fixture(scope="module")
def victim(hostile: Hostile, airflow: Airflow) -> dict[str, str]:
    """A run and a task instance of the team that is attacked."""
    run = airflow.trigger("fraud__victim")
    run.succeed()
    return {"victim": run.run_id, "other": run.tasks()["nothing"]["id"]}


@pytest.fixture(scope="module")
def runs(
    installation: Installation,
    airflow: Airflow,
    hostile: Hostile,
    victim: Mapping[str, str],
    outside: list[tuple[str, str, int]],
    places: list[tuple[str, str, int]],  # noqa: F811
) -> dict[str, Run]:
    """The hostile runs, started together."""
    walls = [place for place in places if place[0] not in DOORS]
    conf = {
        "object": "kommuna/teams/fraud/inbox/transactions.csv",
        "model": MODEL,
        "logged": hostile.logged,
        "places": [*walls, *outside, *pods_by_address(installation)],
    }
    return {
        "asks": airflow.trigger("support__asks", **victim),
        "reports": airflow.trigger("support__reports"),
        "looks": airflow.trigger("support__looks", **conf),
    }


def test_a_tasks_token_opens_nothing_of_another_team(runs: dict[str, Run], ledger: Ledger) -> None:
    run = runs["asks"]
    wait_until("it has asked", lambda: run.states().get("asks") in ("success", "failed"), seconds=300)
    assert run.states()["asks"] == "success", run.log("asks")
    ledger.add(*lines_of("task", run.result("asks")["lines"]))


def test_a_refused_report_fails_its_task(runs: dict[str, Run], ledger: Ledger) -> None:
    run = runs["reports"]
    assert run.wait(seconds=300) == "failed"
    log = run.log("reports", "1e+300")
    found = [json.loads(text.partition("LINE ")[2]) for text in log.splitlines() if "LINE " in text]
    assert len(found) == 5, log
    ledger.add(*lines_of("task", found))


def test_a_task_reaches_no_other_teams_store_registry_or_pods(runs: dict[str, Run], ledger: Ledger) -> None:
    run = runs["looks"]
    run.succeed(seconds=300)
    ledger.add(*lines_of("task", run.result("looks_around")["lines"]))


def test_an_ended_tasks_token_opens_nothing(runs: dict[str, Run], ledger: Ledger) -> None:
    run = runs["asks"]
    run.succeed(seconds=300)
    ledger.add(*lines_of("task", run.result("comes_later")["lines"]))


def test_a_task_with_a_token_of_kubernetes_changes_nothing_but_its_pods(
    hostile: Hostile, airflow: Airflow, ledger: Ledger
) -> None:
    wait_until("its DAG is known", lambda: "bench__attacks" in airflow.dags(), seconds=300)
    run = airflow.trigger("bench__attacks")
    run.succeed(seconds=300)
    ledger.add(*lines_of("task", run.result("asks")["lines"]))


@pytest.mark.long
def test_a_task_that_uses_up_disk_memory_processes_or_its_log_hurts_only_itself(
    installation: Installation, hostile: Hostile, airflow: Airflow, ledger: Ledger
) -> None:
    before = restarts(installation)
    run = airflow.trigger("support__wastes", log_megabytes=LOG_MEGABYTES)
    slowest = 0.0
    other = airflow.trigger("fraud__platform_check")
    deadline = time.monotonic() + 1200
    while run.state not in ("success", "failed") and time.monotonic() < deadline:
        slowest = max(slowest, answered(airflow))
    states = run.states()
    other.succeed()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_log, airflow, run, "floods_log")
        while not reading.done():
            slowest = max(slowest, answered(airflow))
    size, seconds = reading.result()
    events = ("get", "events", "--field-selector", "reason=Evicted", "-o", "jsonpath={.items[*].message}")
    evicted = installation.cluster.kubectl("-n", "kommuna-support", *events)
    full = states["fills_disk"] == "failed" and ("ephemeral" in evicted or "EmptyDir" in evicted)
    bounded = size < MOST_LOG and slowest < MOST_SECONDS
    log = f"{size:,} bytes in {seconds:.1f} s; slowest answer to others {slowest:.1f} s"
    after = restarts(installation)
    ledger.add(
        *lines_of("task", run.result("starts_threads")["lines"]),
        Line("a task fills its disk", "task", "kubelet", full, evicted[-300:]),
        Line("a task takes memory without end", "task", "kubelet", states["eats_memory"] == "failed", str(states)),
        Line(f"a log of {LOG_MEGABYTES} MB", "task", "log tail", bounded, log),
        Line(
            "a wasteful team restarts the platform",
            "task",
            "quota",
            after == before,
            f"{before} restarts, then {after}",
        ),
        Line(
            "a wasteful team stops another's tasks",
            "task",
            "quota",
            other.state == "success",
            f"{other.dag}: {other.state}",
        ),
    )


def answered(airflow: Airflow) -> float:
    """Asks for something small; returns the seconds until the answer."""
    began = time.monotonic()
    airflow.get("/dags", limit=1)
    time.sleep(0.5)
    return time.monotonic() - began - 0.5


def restarts(installation: Installation) -> int:
    """Returns how often containers of the control plane have restarted."""
    found = installation.cluster.items("pods", CONTROL)
    return sum(one["restartCount"] for pod in found for one in pod["status"].get("containerStatuses", ()))


def read_log(airflow: Airflow, run: Run, task: str) -> tuple[int, float]:
    """Reads a task's log as the UI does, once its pod has sent it; returns its bytes and the seconds."""
    path, whole = f"{run.path}/taskInstances/{task}/logs/1", {"full_content": "true"}
    size, seconds = 0, 0.0

    def is_there() -> bool:
        nonlocal size, seconds
        began = time.monotonic()
        size = len(airflow.call("GET", path, params=whole).content)
        seconds = time.monotonic() - began
        return size > LEAST_LOG

    wait_until("the log is sent", is_there, seconds=300)
    return size, seconds

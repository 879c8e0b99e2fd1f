"""Attacks by task code: a hostile team's tasks, in worker pods, with the token, the logins and the files that they have."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

import pytest
import requests
from tests.e2e.attacks.conftest import MODEL, Hostile, pods_by_address
from tests.e2e.attacks.ledger import Ledger, Line, lines_of
from tests.e2e.installation import CONTROL, Airflow, Installation, Run, wait_until
from tests.e2e.test_1_walls import places  # noqa: F401 (a fixture)

DOORS = {"execution", "mlflow", "store"}
LOG_MEGABYTES = 1000


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
        began = time.monotonic()
        airflow.get("/dags", limit=1)
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(1)
    states = run.states()
    other.succeed()
    size, seconds = read_log(airflow, run, "floods_log")
    evicted = installation.cluster.kubectl(
        "-n",
        "kommuna-support",
        "get",
        "events",
        "--field-selector",
        "reason=Evicted",
        "-o",
        "jsonpath={.items[*].message}",
    )
    ledger.add(
        *lines_of("task", run.result("forks")["lines"]),
        Line("a task fills its disk", "task", "kubelet", (states["fills_disk"] == "failed" and "ephemeral" in evicted.lower()) or "emptydir" in evicted.lower(), evicted[-300:]),
        Line("a task takes memory without end", "task", "kubelet", states["eats_memory"] == "failed", states["eats_memory"]),
        Line(
            f"a log of {LOG_MEGABYTES} MB is read", "task", "log tail", size < 32_000_000 and seconds < 60,
            f"{size:,} bytes in {seconds:.1f} s; slowest answer to others {slowest:.1f} s",
        ),
        Line("a wasteful team restarts the platform", "task", "quota", restarts(installation) == before, f"{before} restarts before and after"),
        Line("a wasteful team stops another's tasks", "task", "quota", other.state == "success", f"{other.dag} {other.state}"),
    )  # fmt: skip
    assert slowest < 30


def restarts(installation: Installation) -> int:
    """Returns how often containers of the control plane have restarted."""
    found = installation.cluster.items("pods", CONTROL)
    return sum(one["restartCount"] for pod in found for one in pod["status"].get("containerStatuses", ()))


def read_log(airflow: Airflow, run: Run, task: str) -> tuple[int, float]:
    """Reads a task's log as the UI does; returns its bytes and the seconds."""
    began = time.monotonic()
    answer: requests.Response = airflow.call(
        "GET", f"{run.path}/taskInstances/{task}/logs/1", params={"full_content": "true"}
    )
    return len(answer.content), time.monotonic() - began

"""Faults in the middle of a run: the result is right and made once, or the error is clear and reported once."""

from __future__ import annotations

import json
import time

import pytest
from tests.e2e.installation import CONTROL, Airflow, Installation, Run, wait_until


def running_worker(installation: Installation, run: Run) -> str:
    """Waits for the pod of the run's first task; returns its name."""
    wait_until("the step runs", lambda: run.states().get("wait") == "running", seconds=300)
    wait_until("the step is in its own process", lambda: "step.started" in _own_log(installation, run), seconds=120)
    return next(
        pod["metadata"]["name"]
        for pod in installation.workers("support")
        if pod["metadata"]["annotations"]["run_id"] == run.run_id
    )


def _own_log(installation: Installation, run: Run) -> str:
    for pod in installation.workers("support"):
        if pod["metadata"]["annotations"]["run_id"] == run.run_id:
            return installation.cluster.kubectl("-n", "kommuna-support", "logs", pod["metadata"]["name"], check=False)
    return ""


def workers(installation: Installation, run: Run) -> set[str]:
    """Returns the names of the run's worker pods that have not ended."""
    return {
        pod["metadata"]["name"]
        for pod in installation.workers("support")
        if pod["metadata"]["annotations"]["run_id"] == run.run_id
    }


def counted(run: Run) -> None:
    """Checks that the result is right and each task was done once."""
    tasks = run.tasks()
    assert sorted(tasks) == ["count", "wait"]
    assert {task["state"] for task in tasks.values()} == {"success"}
    assert run.result("count")["rows"] == 1


def test_the_step_of_a_killed_worker_pod_runs_again(installation: Installation, airflow: Airflow) -> None:
    run = airflow.trigger("support__waits", seconds=10)
    pod = running_worker(installation, run)
    installation.cluster.kubectl("-n", "kommuna-support", "delete", "pod", pod, "--grace-period=0", "--force")
    run.succeed(seconds=600)
    counted(run)
    assert run.tasks()["wait"]["try_number"] == 2


def test_the_step_continues_after_the_scheduler_is_killed(installation: Installation, airflow: Airflow) -> None:
    run = airflow.trigger("support__waits", seconds=20)
    running_worker(installation, run)
    scheduler = installation.cluster.items("pods", CONTROL, "-l", "app.kubernetes.io/component=scheduler")[0]
    name = scheduler["metadata"]["name"]
    installation.cluster.kubectl("-n", CONTROL, "delete", "pod", name, "--grace-period=0", "--force")
    run.succeed(seconds=900)
    counted(run)


def test_a_run_survives_outages_of_the_api_server_the_git_server_and_dns(
    installation: Installation, airflow: Airflow
) -> None:
    """Meanwhile the first step ends; the second step's pod starts without Git, which workers do not need."""
    if not installation.cluster.is_ours:
        pytest.skip("takes away the DNS of the whole cluster: on the test cluster alone")
    kubectl = installation.cluster.kubectl
    dns, api = ("kube-system", "coredns"), (CONTROL, "kommuna-api-server")

    def scale(deployment: tuple[str, str], replicas: int) -> None:
        kubectl("-n", deployment[0], "scale", "deployment", deployment[1], f"--replicas={replicas}")

    def lead_git_to(app: str) -> None:  # the server itself forgets its repositories with its pod
        kubectl("-n", "fixtures", "patch", "service", "git", "-p", json.dumps({"spec": {"selector": {"app": app}}}))

    run = airflow.trigger("support__waits", seconds=5)
    running_worker(installation, run)
    try:
        lead_git_to("nowhere")
        scale(dns, 0)
        scale(api, 0)
        time.sleep(75)  # the length of the outage
        scale(dns, 1)  # without it the API server does not find its database
        scale(api, 1)
        wait_until("the second step starts", lambda: run.states()["count"] in ("running", "success"), seconds=300)
    finally:
        scale(dns, 1)
        scale(api, 1)
        lead_git_to("git")
    for namespace, name in (dns, api):
        kubectl("-n", namespace, "rollout", "status", "deployment", name, "--timeout=180s")
    run.succeed(seconds=600)
    counted(run)
    assert {task["try_number"] for task in run.tasks().values()} == {1}


def test_a_step_waits_for_a_full_quota_and_does_not_fail(installation: Installation, airflow: Airflow) -> None:
    """Six steps of 750 millicores in a quota of 3 cores: four at a time."""
    run = airflow.trigger("support__wide", seconds=8)
    most = 0
    while run.state not in ("success", "failed"):
        most = max(most, len(workers(installation, run)))
    run.succeed()
    assert 1 <= most <= 4
    assert {task["try_number"] for task in run.tasks().values()} == {1}
    assert len(run.tasks()) == 6


def test_the_parser_comes_back_while_steps_fill_the_quota(installation: Installation, airflow: Airflow) -> None:
    """As after an eviction: steps that wait for the quota do not use the parser's share, nor the parser theirs.

    The steps use up the quota by cores, so that the node has memory for the parser whatever waits for the node.
    """
    run = airflow.trigger("support__wide", seconds=180)
    wait_until("four steps fill the quota", lambda: len(workers(installation, run)) == 4, seconds=300)
    filling = workers(installation, run)
    parser = ["-n", "kommuna-support", "-l", "app.kubernetes.io/component=parser"]
    (before,) = installation.cluster.items("pods", *parser[1:])
    installation.cluster.kubectl(*parser[:2], "delete", "pod", *parser[2:], "--grace-period=0", "--force")

    def back() -> bool:
        pods = installation.cluster.items("pods", *parser[1:])
        return any(
            pod["metadata"]["uid"] != before["metadata"]["uid"]
            and any(status["ready"] for status in pod["status"].get("containerStatuses", []))
            for pod in pods
        )

    wait_until("a new parser is ready", back, seconds=120)
    assert workers(installation, run) == filling
    assert airflow.call("PATCH", run.path, json={"state": "failed"}).ok
    wait_until("the steps are gone", lambda: not workers(installation, run), seconds=120)


def test_out_of_memory_is_reported_and_not_retried(installation: Installation, airflow: Airflow) -> None:
    run = airflow.trigger("support__hungry")
    assert run.wait(seconds=600) == "failed"
    assert run.tasks()["hoard"]["try_number"] == 1
    why = "out of memory: the step used"
    log = run.log("hoard", why)
    assert why in log
    assert "fix: raise `memory` in the step's resources" in log

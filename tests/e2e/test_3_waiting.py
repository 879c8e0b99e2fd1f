"""Deferred tasks: only Airflow's code waits in the control plane, never a team's."""

from __future__ import annotations

from tests.e2e.installation import Airflow, Installation, wait_until


def test_a_task_waits_without_a_pod_and_resumes(installation: Installation, airflow: Airflow) -> None:
    run = airflow.trigger("support__sleeps")
    wait_until("the sensor waits", lambda: run.states().get("sensor") == "deferred", seconds=300)
    mine = lambda: [  # noqa: E731
        pod for pod in installation.workers("support") if pod["metadata"]["annotations"]["task_id"] == "sensor"
    ]
    wait_until("its pod is gone", lambda: not mine() or run.states()["sensor"] != "deferred", seconds=60)
    run.succeed(seconds=600)
    assert set(run.states().values()) == {"success"}
    assert run.tasks()["sleep"]["try_number"] == 1
    expected = ("before the wait", "trigger starting", "after the wait")
    log = run.log("sleep", *expected)
    for words in expected:
        assert words in log


def test_a_task_that_waits_by_its_own_trigger_class_fails_with_the_reason(airflow: Airflow) -> None:
    run = airflow.trigger("support__own_trigger")
    assert run.wait(seconds=600) == "failed"
    why = "the platform does not run the trigger waiting.OwnTrigger"
    log = run.log("own", why)
    assert why in log
    assert "use one of airflow.providers.standard.triggers.temporal.DateTimeTrigger" in log

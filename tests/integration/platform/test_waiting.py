"""Deferred tasks on the embedded platform: the same DAGs as on Kubernetes, with the same results."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.integration.platform.conftest import Site


@pytest.fixture(scope="module")
def dags(site: Site, root: Path) -> Iterator[None]:
    """The waiting DAGs of the end-to-end tests, in the support team's bundle."""
    file = site.root / "dags/support/waiting.py"
    shutil.copy(root / "tests/e2e/dags/support/waiting.py", file)
    yield
    file.unlink()


def ended(site: Site, dag: str) -> dict[str, dict[str, Any]]:
    """Starts a DAG, waits for its end, and returns its task instances by name."""
    api = site.api()
    api.wait_for_dags([dag], seconds=240)
    run = api.trigger(dag, {})
    for _ in api.watch([run]):
        pass
    return {
        task["task_id"]: {**task, "log": "\n".join(api.log(run, task["task_id"]))} for task in api.task_instances(run)
    }


@pytest.mark.usefixtures("dags")
def test_a_task_waits_by_a_trigger_and_resumes(site: Site) -> None:
    tasks = ended(site, "support__sleeps")
    assert {name: task["state"] for name, task in tasks.items()} == {"sleep": "success", "sensor": "success"}
    for words in ("before the wait", "Trigger fired event", "after the wait"):
        assert words in tasks["sleep"]["log"]


@pytest.mark.usefixtures("dags")
def test_a_task_that_waits_by_its_own_trigger_class_fails_with_the_reason(site: Site) -> None:
    tasks = ended(site, "support__own_trigger")
    assert tasks["own"]["state"] == "failed"
    assert "the platform does not run the trigger waiting.OwnTrigger" in tasks["own"]["log"]

"""A step's resources become its pod's requests and limits, and nothing else of the pod."""

import subprocess
import sys
from pathlib import Path

import pytest

from kommuna.errors import SpecError

ROOT = Path(__file__).parents[3]


def test_resources_become_requests_and_limits_of_the_tasks_container() -> None:
    from kubernetes.client import ApiClient

    from kommuna.airflow.executor import pod_override

    made = ApiClient().sanitize_for_serialization(pod_override({"cpu": "500m", "memory": "2Gi"}))
    amounts = {"cpu": "500m", "memory": "2Gi"}
    assert made == {"spec": {"containers": [{"name": "base", "resources": {"requests": amounts, "limits": amounts}}]}}


@pytest.mark.parametrize("bad", [{"memory": "lots"}, {"cpu": "1", "nodeName": "node0"}])
def test_invalid_resources_are_refused(bad: dict[str, str]) -> None:
    from kommuna.airflow.executor import pod_override

    with pytest.raises(SpecError):
        pod_override(bad)


@pytest.mark.parametrize(("version", "queued"), [(None, "newest"), ("first", "first")])
def test_a_task_without_a_version_gets_its_bundles_newest(
    monkeypatch: pytest.MonkeyPatch, version: str | None, queued: str
) -> None:
    from types import SimpleNamespace

    from airflow.executors.workloads.base import BundleInfo
    from pydantic import BaseModel

    from kommuna.airflow import executor

    class Workload(BaseModel):
        bundle_info: BundleInfo

    given: list[Workload] = []
    monkeypatch.setattr(
        executor.KubernetesExecutor, "queue_workload", lambda _self, workload, _: given.append(workload)
    )
    session = SimpleNamespace(scalar=lambda query: "newest" if "dag_bundle" in str(query) else None)
    workload = Workload(bundle_info=BundleInfo(name="support", version=version))
    executor.TeamExecutor.queue_workload(object.__new__(executor.TeamExecutor), workload, session)
    assert [one.bundle_info.version for one in given] == [queued]


def test_a_step_declares_its_resources_without_importing_kubernetes() -> None:
    code = """
import sys
from kommuna.airflow import StepOperator
step = StepOperator(task_id="a", function="m:f", step_resources={"cpu": "2", "memory": "1Gi"})
print(step.executor_config, "kubernetes" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "{'resources': {'cpu': '2', 'memory': '1Gi'}} False"

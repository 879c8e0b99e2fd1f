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


def test_a_step_declares_its_resources_without_importing_kubernetes() -> None:
    code = """
import sys
from kommuna.airflow import StepOperator
step = StepOperator(task_id="a", function="m:f", step_resources={"cpu": "2", "memory": "1Gi"})
print(step.executor_config, "kubernetes" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "{'resources': {'cpu': '2', 'memory': '1Gi'}} False"

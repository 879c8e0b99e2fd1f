"""Each pod that a team's task creates has a deadline, so that its team's quota counts it and not the parser's.

The pods are made as Airflow makes them: by the executor's own generator and by its operator for pods, in a process that
has loaded the platform's policies as Airflow's do.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kommuna.airflow.admission.policies import POD_DEADLINE_SECONDS

ROOT = Path(__file__).parents[3]
WORKER = """
import json
from kubernetes.client import models
from airflow import settings
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
settings.load_policy_plugins(settings.get_policy_plugin_manager())
template = models.V1Pod(
    metadata=models.V1ObjectMeta(), spec=models.V1PodSpec(containers=[models.V1Container(name="base")])
)
pod = PodGenerator.construct_pod(
    dag_id="support__d", task_id="t", pod_id="p", try_number=1, kube_image="i", date=None, args=["true"],
    pod_override_object=None, base_worker_pod=template, namespace="n", scheduler_job_id="1", run_id="r", map_index=-1,
    with_mutation_hook=True,
)
print(json.dumps(pod.spec.active_deadline_seconds))
"""
OPERATOR = """
import json, sys
from airflow import settings
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
settings.load_policy_plugins(settings.get_policy_plugin_manager())
given = json.loads(sys.argv[1])
task = KubernetesPodOperator(task_id="t", image="i", name="n", in_cluster=True, namespace="n", **given)
KubernetesPodOperator.hook = type("Hook", (), {"is_in_cluster": True})  # there is no cluster to ask
print(json.dumps(task.build_pod_request_obj().spec.active_deadline_seconds))
"""


def deadline(code: str, *arguments: str) -> int:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    return int(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
def test_a_worker_pod_gets_a_distant_deadline() -> None:
    assert deadline(WORKER) == POD_DEADLINE_SECONDS


@pytest.mark.slow
@pytest.mark.parametrize(("given", "wanted"), [({}, POD_DEADLINE_SECONDS), ({"active_deadline_seconds": 60}, 60)])
def test_a_pod_of_airflows_own_operator_gets_a_deadline_and_keeps_its_own(given: dict[str, int], wanted: int) -> None:
    assert deadline(OPERATOR, json.dumps(given)) == wanted

"""The same step with Airflow's operator for pods."""

import json

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

from kommuna.airflow import TeamDag
from kommuna.airflow.operators.image import pod_of
from kommuna.spec.resources import Resources

STEP = {
    "function": "kommuna.steps:check",
    "team": "bench",
    "cache": False,
    "store": {"url": "s3://kommuna/teams", "options": {"endpoint_url": "http://minio.fixtures.svc:9000"}},
}

with TeamDag("pod_operator"):
    KubernetesPodOperator(
        task_id="step",
        image="@STEPS@",
        cmds=["python", "-m", "kommuna.runtime"],
        arguments=["--spec-json", json.dumps(STEP)],
        pod_template_dict=pod_of("bench", Resources(cpu="1", memory="1Gi")),
        in_cluster=True,
        executor_config={"resources": {"cpu": "1", "memory": "1Gi"}},
    )

"""The same bare step in three ways: in the worker pod, in a pod of its own image, and by Airflow's own operator."""

import json

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

from kommuna.airflow import ImageOperator, StepOperator, TeamDag
from kommuna.airflow.image import pod_of
from kommuna.spec.resources import Resources

SMALL = {"cpu": "250m", "memory": "768Mi", "seconds": 300}
IMAGE = "@STEPS@"
FUNCTION = "kommuna.steps.check:check"

with TeamDag("in_worker"):
    StepOperator(task_id="step", function=FUNCTION, step_resources=SMALL, cache=False)

with TeamDag("own_image"):
    ImageOperator(task_id="step", function=FUNCTION, image=IMAGE, step_resources=SMALL, cache=False)

with TeamDag("pod_operator"):
    KubernetesPodOperator(
        task_id="step",
        image=IMAGE,
        cmds=["python", "-m", "kommuna.runtime"],
        arguments=[
            "--spec-json",
            json.dumps(
                {
                    "function": FUNCTION,
                    "team": "bench",
                    "cache": False,
                    "store": {
                        "url": "s3://kommuna/teams",
                        "options": {"endpoint_url": "http://minio.fixtures.svc:9000"},
                    },
                }
            ),
        ],
        pod_template_dict=pod_of("bench", Resources(cpu="250m", memory="768Mi")),
        in_cluster=True,
        executor_config={"resources": {"cpu": "250m", "memory": "768Mi"}},
    )

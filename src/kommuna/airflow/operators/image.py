"""`ImageOperator`: runs a step in a pod of its own, from any image that has Kommuna's runtime in it.

For steps whose dependencies clash with the platform's image, and for images with a GPU's libraries. The result comes
back by the container's termination message, so no sidecar and no right to `pods/exec` is needed. The task that waits
for the pod asks the Kubernetes API, so the team needs `own_images: true` in the chart's values.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk.exceptions import AirflowException

from kommuna.airflow.operators.step import StepOperator
from kommuna.errors import LimitExceeded, PlatformFault, SpecError
from kommuna.spec.caching import INTERPRETER
from kommuna.spec.pod import CONTAINER, CONTAINER_SECURITY, POD, POD_SECURITY, writable
from kommuna.spec.resources import Resources
from kommuna.spec.step import FileInput, InputTree, StepResult, StepSpec

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

_RESULT = "/dev/termination-log"
_WAITING = {"cpu": "500m", "memory": "768Mi"}  # the task itself only waits for the pod


class ImageOperator(StepOperator, KubernetesPodOperator):  # type: ignore[misc,unused-ignore]
    """Runs one step in its own image.

    Args:
        function: `module:function` that the image has.
        image: with Kommuna's runtime.
        options: everything that `StepOperator` takes; `step_resources` are those of the step's pod, since the task
            beside it needs little.

    Files of the bundle are not in the image: inputs are other steps' outputs, models and `store://` files.
    """

    template_fields = ("inputs", "parameters", "image")

    def __init__(self, *, function: str, image: str, **options: Any) -> None:
        super().__init__(
            function=function,
            image=image,
            in_cluster=True,
            log_pod_spec_on_failure=False,  # the spec shows the step's parameters
            on_finish_action="delete_pod",
            startup_timeout_seconds=600,
            termination_message_policy="File",
            **options,
        )
        self.do_xcom_push = True  # the step's result; Airflow's operator takes it for a sidecar, see _run
        self._context: Context | None = None

    @classmethod
    def executor_config_of(cls, resources: Resources) -> dict[str, Any]:
        """What the waiting task needs; the step's resources are its own pod's."""
        return {"resources": dict(_WAITING)}

    def execute(self, context: Context) -> dict[str, Any]:
        """Starts the pod and waits for the step.

        Raises:
            StepFailed: the team's mistake, or a limit: no retry.
            StepToRetry: anything else: retried.
        """
        self._context = context
        return super().execute(context)

    def on_kill(self) -> None:
        """Airflow ends the task: so does the pod."""
        KubernetesPodOperator.on_kill(self)

    def _found(self, spec: StepSpec) -> StepResult | None:
        """None: what the image holds is not known here, so the step's own runtime looks."""
        return None

    def _run(self, spec: StepSpec) -> StepResult:
        for name, value in spec.inputs.items():
            _not_of_the_bundle(name, value)
        self.cmds = ["python", "-m", "kommuna.runtime"]
        self.arguments = ["--spec-json", spec.model_dump_json(exclude={"bundle"}), "--result", _RESULT]
        self.pod_template_dict = pod_of(spec.team, spec.resources)
        self.do_xcom_push = False
        try:
            assert self._context is not None
            self.execute_sync(self._context)
            failure = ""
        except AirflowException as error:
            failure = str(error).splitlines()[0]
        finally:
            self.do_xcom_push = True
        return result_of_pod(self.remote_pod, spec, failure)


def pod_of(team: str, resources: Resources) -> dict[str, Any]:
    """The step's pod as plain data: restricted, with the team's secret, and nothing of Airflow's."""
    amounts = {"cpu": resources.cpu, "memory": resources.memory}
    mounts, volumes = writable(tmp="/tmp")
    container = {
        **CONTAINER,
        "name": "base",
        "env": [
            {"name": name, "value": value}
            for name, value in {"KOMMUNA_TEAM": team, "HOME": "/tmp", **INTERPRETER}.items()
        ],
        "resources": {"requests": amounts, "limits": amounts},
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": mounts,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "step", "labels": {"app.kubernetes.io/component": "worker", "kommuna/team": team}},
        "spec": {
            **POD,
            "serviceAccountName": "worker",
            "automountServiceAccountToken": False,
            "securityContext": POD_SECURITY,
            "containers": [container],
            "volumes": volumes,
        },
    }


def result_of_pod(pod: Any, spec: StepSpec, failure: str) -> StepResult:
    """How the step ended, from its pod's termination message; in the kernel's words where it left none.

    Args:
        pod: the finished pod, None if it never was seen.
        failure: what went wrong with the pod, if anything.
    """
    statuses = (pod.status.container_statuses or []) if pod is not None and pod.status else []
    ended = next((s.state.terminated for s in statuses if s.name == "base" and s.state), None)
    if ended is not None and ended.message:
        try:
            return StepResult.model_validate_json(ended.message)
        except ValueError:
            failure = ended.message[-500:]
    if ended is not None and ended.reason == "OOMKilled":
        return StepResult.failed(
            LimitExceeded(
                f"out of memory: the pod used more than {spec.resources.memory}",
                where=spec.function,
                fix="raise `memory` in the step's resources, or stream the table",
            )
        )
    return StepResult.failed(
        PlatformFault(
            f"the step's pod left no result: {failure or 'it ended without a word'}",
            where=spec.function,
            fix="check that the image has Kommuna's runtime (`python -m kommuna.runtime --help`); it is retried",
        )
    )


def _not_of_the_bundle(name: str, value: InputTree) -> None:
    """Refuses an input that lies in the bundle, which an image of its own does not have."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    for part in parts:
        if isinstance(part, FileInput) and "://" not in part.url and not os.path.isabs(part.url):  # noqa: PTH117
            raise SpecError(
                f"input '{name}' is the bundle's file '{part.url}', which is not in the step's image",
                fix="put it into the store and name it store://…, or read it by a step of the platform's image",
            )

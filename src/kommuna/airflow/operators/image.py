"""`ImageOperator`: runs a step in its own pod, from any image that contains Kommuna's runtime.

Use it for steps whose dependencies clash with the platform's image, and for images with GPU libraries. The result comes
back in the container's termination message, so neither a sidecar nor the right to `pods/exec` is needed. The task that
waits for the pod calls the Kubernetes API, so the team needs `own_images: true` in the chart's values.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk.exceptions import AirflowException

from kommuna.airflow.operators.step import StepOperator
from kommuna.errors import LimitExceeded, PlatformFault, SpecError
from kommuna.spec.caching import INTERPRETER
from kommuna.spec.llm import Llms
from kommuna.spec.pod import CONTAINER, CONTAINER_SECURITY, POD, POD_SECURITY, secret_variables, writable
from kommuna.spec.resources import Resources
from kommuna.spec.step import FileInput, InputTree, StepResult, StepSpec

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

_RESULT = "/dev/termination-log"
_WAITING = {"cpu": "500m", "memory": "768Mi"}  # the task itself only waits for the pod


class ImageOperator(StepOperator, KubernetesPodOperator):  # type: ignore[misc,unused-ignore]
    """Runs one step in its own image.

    Args:
        function: `module:function` of a step in the image.
        image: an image that contains Kommuna's runtime.
        options: everything that `StepOperator` takes; `step_resources` are those of the step's pod, since the waiting
            task needs little.

    The image does not contain the bundle's files. Inputs are other steps' outputs, models and `store://` files.
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
        """Returns the resources of the waiting task; the step's own go to the step's pod."""
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
        """Deletes the pod when Airflow kills the task."""
        KubernetesPodOperator.on_kill(self)

    def _cached_result(self, spec: StepSpec, until_the_end: contextlib.ExitStack) -> StepResult | None:
        """Returns None: the image's code is not known here, so the runtime in the image looks for earlier results."""
        return None

    def _run(self, spec: StepSpec) -> StepResult:
        for name, value in spec.inputs.items():
            _refuse_bundle_file(name, value)
        self.cmds = ["python", "-m", "kommuna.runtime"]
        self.arguments = ["--spec-json", spec.model_dump_json(exclude={"bundle"}), "--result", _RESULT]
        self.pod_template_dict = pod_of(spec.team, spec.resources, spec.services.llm)
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


def pod_of(team: str, resources: Resources, llms: Llms | None = None) -> dict[str, Any]:
    """Returns the manifest of the step's pod: restricted, with the team's secrets and without Airflow's settings.

    Args:
        team: the team whose namespace the pod runs in.
        resources: the step's resources: the container's requests and limits.
        llms: the LLM endpoints of the step, whose keys the pod gets as variables; None if it calls none.
    """
    amounts = {"cpu": resources.cpu, "memory": resources.memory}
    mounts, volumes = writable(tmp="/tmp")
    container = {
        **CONTAINER,
        "name": "base",
        "env": [
            *(
                {"name": name, "value": value}
                for name, value in {"KOMMUNA_TEAM": team, "HOME": "/tmp", **INTERPRETER}.items()
            ),
            *secret_variables(llms.secrets if llms else ()),
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
    """Reads how the step ended from its pod's termination message, or else from the container's state.

    Args:
        pod: the finished pod; None if it was never seen.
        spec: the step that ran in the pod.
        failure: what went wrong with the pod; empty if nothing did.
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
            f"the step's pod left no result: {failure or 'it ended without a message'}",
            where=spec.function,
            fix="check that the image has Kommuna's runtime (`python -m kommuna.runtime --help`); the task is retried",
        )
    )


def _refuse_bundle_file(name: str, value: InputTree) -> None:
    """Raises if an input is a file of the bundle, which is not in the image."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    for part in parts:
        if isinstance(part, FileInput) and "://" not in part.url and not os.path.isabs(part.url):  # noqa: PTH117
            raise SpecError(
                f"input '{name}' is the bundle's file '{part.url}', which is not in the step's image",
                fix="put it into the store and name it store://…, or read it in a step of the platform's image",
            )

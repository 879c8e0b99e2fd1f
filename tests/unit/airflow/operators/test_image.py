"""A step in its own image: its pod, and its result in the termination message."""

import pytest
from kubernetes.client import (
    V1ContainerState,
    V1ContainerStateTerminated,
    V1ContainerStatus,
    V1Pod,
    V1PodStatus,
)

from kommuna.airflow.operators.image import _refuse_bundle_file, pod_of, result_of_pod
from kommuna.errors import EXIT_FAULT, EXIT_LIMIT, MissingColumn, SpecError
from kommuna.spec.llm import LlmEndpoint, Llms, SecretKey
from kommuna.spec.resources import Resources
from kommuna.spec.step import FileInput, StepResult, StepSpec, StoreAddress

SPEC = StepSpec(function="m:f", team="support", store=StoreAddress(url="s3://b/p"))


def ended(*, code: int, message: str = "", reason: str = "Error") -> V1Pod:
    terminated = V1ContainerStateTerminated(exit_code=code, message=message or None, reason=reason)
    status = V1ContainerStatus(
        name="base", image="i", image_id="i", ready=False, restart_count=0,
        state=V1ContainerState(terminated=terminated),
    )  # fmt: skip
    return V1Pod(status=V1PodStatus(container_statuses=[status]))


def test_the_termination_message_is_the_result() -> None:
    left = StepResult.failed(MissingColumn("no column 'text'", fix="see\nits header"))
    assert result_of_pod(ended(code=2, message=left.model_dump_json()), SPEC, "Pod failed") == left


def test_a_pod_that_the_kernel_killed_for_memory_ends_in_exit_code_3() -> None:
    found = result_of_pod(ended(code=137, reason="OOMKilled"), SPEC, "Pod failed")
    assert found.exit_code == EXIT_LIMIT
    assert found.message.startswith("out of memory: the pod used more than 4Gi")


@pytest.mark.parametrize("pod", [None, V1Pod(status=V1PodStatus()), ended(code=1, message="no such module")])
def test_a_pod_without_a_result_is_retried(pod: V1Pod | None) -> None:
    found = result_of_pod(pod, SPEC, "image not found")
    assert found.exit_code == EXIT_FAULT
    assert "no such module" in found.message or "image not found" in found.message


def test_the_pod_is_restricted_and_has_only_the_teams_secret() -> None:
    pod = pod_of("support", Resources(cpu="2", memory="8Gi"))
    container = pod["spec"]["containers"][0]
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["serviceAccountName"] == "worker"  # which knows the registry's secrets
    assert container["resources"]["limits"] == {"cpu": "2", "memory": "8Gi"}
    assert container["envFrom"] == [{"secretRef": {"name": "worker"}}]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert not [entry for entry in container["env"] if "valueFrom" in entry]


def test_the_pod_gets_the_keys_of_the_teams_llms_from_its_secret() -> None:
    secret = SecretKey(name="models", key="token")  # beside the control plane, where the pod cannot read it
    light = LlmEndpoint(url="http://x/v1", model="m", key_variable="LLM_KEY", secret=secret)
    llms = Llms(light=light, heavy=LlmEndpoint(url="http://y/v1", model="m", key_variable="OTHER_KEY"))
    (container,) = pod_of("support", Resources(), llms)["spec"]["containers"]
    found = [entry for entry in container["env"] if "valueFrom" in entry]
    assert found == [{"name": "LLM_KEY", "valueFrom": {"secretKeyRef": {"name": "llm", "key": "LLM_KEY"}}}]


def test_a_file_of_the_bundle_is_refused_and_one_of_the_store_is_not() -> None:
    _refuse_bundle_file("messages", FileInput(url="store://inbox/messages.csv"))
    with pytest.raises(SpecError, match=r"'rules\.yaml'"):
        _refuse_bundle_file("rules", FileInput(url="rules.yaml"))

"""`TeamExecutor`: starts each task in a pod of the team's namespace, with the step's resources.

A DAG declares what a step needs as plain data (`executor_config={"resources": …}`), so parsing it does not import the
Kubernetes library, which takes 2 seconds. The pod override is built here, in the scheduler, where no team code runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.providers.cncf.kubernetes.executors.kubernetes_executor import KubernetesExecutor

from kommuna.spec.resources import Resources

RESOURCES = "resources"


class TeamExecutor(KubernetesExecutor):  # type: ignore[misc,unused-ignore]
    """Airflow's KubernetesExecutor, which also applies a step's resources and names the version of a task's code."""

    def queue_workload(self, workload: Any, session: Any) -> None:
        """Queues a task. A run without a version gets its bundle's newest, from the database."""
        bundle = workload.bundle_info
        if bundle.version is None:
            from airflow.models.dagbundle import DagBundleModel
            from sqlalchemy import select

            newest = session.scalar(select(DagBundleModel.version).where(DagBundleModel.name == bundle.name))
            workload = workload.model_copy(update={"bundle_info": bundle.model_copy(update={"version": newest})})
        super().queue_workload(workload, session)

    def execute_async(
        self, key: Any, command: Any, queue: str | None = None, executor_config: Any | None = None
    ) -> None:
        """Starts a task. The resources in its executor config become its pod's requests and limits."""
        if executor_config and RESOURCES in executor_config:
            others = {name: value for name, value in executor_config.items() if name != RESOURCES}
            executor_config = {**others, "pod_override": pod_override(executor_config[RESOURCES])}
        super().execute_async(key, command, queue, executor_config)


def pod_override(resources: Mapping[str, Any]) -> Any:
    """Makes the pod override that gives the container a step's resources.

    Args:
        resources: `cpu` and `memory`, as Kubernetes writes them.
    """
    from kubernetes.client import models

    checked = Resources.read(dict(resources), where="executor_config")
    amounts = {"cpu": checked.cpu, "memory": checked.memory}
    container = models.V1Container(
        name="base", resources=models.V1ResourceRequirements(requests=amounts, limits=amounts)
    )
    return models.V1Pod(spec=models.V1PodSpec(containers=[container]))

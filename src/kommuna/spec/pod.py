"""The restricted security settings of every pod that runs a team's code, as plain Kubernetes data.

`kommuna.airflow.operators.image` builds pods from them, and `make chart` generates the chart's templates from them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

POD_SECURITY: dict[str, Any] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
CONTAINER_SECURITY: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
POD: dict[str, Any] = {
    "enableServiceLinks": False,
    "restartPolicy": "Never",
}  # of a worker, besides its security settings
CONTAINER: dict[str, Any] = {"envFrom": [{"secretRef": {"name": "worker"}}]}  # only the team's own secrets
LLM_SECRET = "llm"  # the team's Secret with an entry for each environment variable that holds the API key of an LLM
TASK = {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "4Gi"}  # for a task without resources of its own


def writable(**folders: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns volume mounts and volumes for writable folders; the pod's root file system is read-only.

    Args:
        folders: path of each folder, by the name of its volume.
    """
    mounts = [{"name": name, "mountPath": path} for name, path in folders.items()]
    return mounts, [{"name": name, "emptyDir": {"sizeLimit": TASK["ephemeral-storage"]}} for name in folders]


def secret_variables(names: Iterable[str]) -> list[dict[str, Any]]:
    """Returns the environment of a worker that may use LLMs: their API keys, by the names of the variables."""
    return [{"name": name, "valueFrom": {"secretKeyRef": {"name": LLM_SECRET, "key": name}}} for name in sorted(names)]

"""The restricted pod: what every pod has in which a team's code runs, as plain data of Kubernetes.

`kommuna.airflow.operators.image` makes pods of it, and the chart's templates are made of it (`make chart`).
"""

from __future__ import annotations

from typing import Any

POD_SECURITY: dict[str, Any] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
CONTAINER_SECURITY: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
POD: dict[str, Any] = {"enableServiceLinks": False, "restartPolicy": "Never"}  # of a worker, beside its security
CONTAINER: dict[str, Any] = {"envFrom": [{"secretRef": {"name": "worker"}}]}  # the team's secrets, nobody else's
TASK = {"cpu": "1", "memory": "1Gi"}  # of a task that says no resources of its own


def writable(**folders: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Volume mounts and volumes of folders that may be written: the pod's root file system may not.

    Args:
        folders: name of the volume to the folder's path.
    """
    mounts = [{"name": name, "mountPath": path} for name, path in folders.items()]
    return mounts, [{"name": name, "emptyDir": {}} for name in folders]

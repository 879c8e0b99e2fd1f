"""Takes controls away for a while: objects of the cluster, policies of the store, and single lines of the platform's code.

The platform has no switch that turns a control off. A Deployment gets a changed copy of one of its files instead.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.e2e.conftest import policy
from tests.e2e.installation import CONTROL, Installation

Object = dict[str, Any]
_OF_THE_SERVER = ("resourceVersion", "uid", "creationTimestamp", "generation", "managedFields")
_FILE = "attacked-file"


@contextmanager
def without(installation: Installation, kind: str, name: str, namespace: str = CONTROL) -> Iterator[None]:
    """Takes an object of the cluster away."""
    kept = _stored(installation, kind, name, namespace)
    installation.cluster.kubectl("-n", namespace, "delete", kind, name)
    try:
        yield
    finally:
        _apply(installation, kept)


@contextmanager
def changed(installation: Installation, deployment: str, change: Callable[[Object], None]) -> Iterator[None]:
    """Runs a Deployment of the control plane with a changed specification of its container."""
    kept = _stored(installation, "deployment", deployment, CONTROL)
    other = copy.deepcopy(kept)
    change(other["spec"]["template"]["spec"])
    try:
        _apply(installation, other)
        _rolled_out(installation, deployment)
        yield
    finally:
        _apply(installation, kept)
        _rolled_out(installation, deployment)


@contextmanager
def rewritten(installation: Installation, deployment: str, place: str, text: str) -> Iterator[None]:
    """Runs a Deployment of the control plane with another text of a file of its image."""
    made = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": _FILE, "namespace": CONTROL},
        "data": {"file": text},
    }

    def mount(pod: Object) -> None:
        pod["volumes"].append({"name": _FILE, "configMap": {"name": _FILE}})
        pod["containers"][0]["volumeMounts"].append({"name": _FILE, "mountPath": place, "subPath": "file"})

    installation.cluster.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(made))
    try:
        with changed(installation, deployment, mount):
            yield
    finally:
        installation.cluster.kubectl("-n", CONTROL, "delete", "configmap", _FILE)


@contextmanager
def without_store_policy(installation: Installation, user: str) -> Iterator[None]:
    """Gives a user of the object store the rights to all teams' objects."""
    _set_policy(
        installation,
        user,
        {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::*"]}],
        },
    )
    try:
        yield
    finally:
        _set_policy(installation, user, policy([f"teams/{user}"]))


def _set_policy(installation: Installation, user: str, rights: Object) -> None:
    mc = (
        "-n",
        "fixtures",
        "exec",
        "-i",
        "deploy/minio",
        "--",
        "mc",
        "admin",
        "policy",
        "create",
        "here",
        user,
        "/dev/stdin",
    )
    installation.cluster.kubectl(*mc, stdin=json.dumps(rights))


def _stored(installation: Installation, kind: str, name: str, namespace: str) -> Object:
    """Returns an object as it can be applied again."""
    kept = installation.cluster.get(kind, name, namespace)
    for key in _OF_THE_SERVER:
        kept["metadata"].pop(key, None)
    kept["metadata"].get("annotations", {}).pop("deployment.kubernetes.io/revision", None)
    kept.pop("status", None)
    return kept


def _apply(installation: Installation, made: Object) -> None:
    # As Helm's own, or its next upgrade would find a conflict.
    apply = ("apply", "--server-side", "--field-manager=helm", "-f", "-")
    installation.cluster.kubectl(*apply, stdin=json.dumps(made))


def _rolled_out(installation: Installation, deployment: str) -> None:
    installation.cluster.kubectl("-n", CONTROL, "rollout", "status", f"deployment/{deployment}", "--timeout", "300s")

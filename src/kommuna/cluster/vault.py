"""`Vault`: the platform's Secrets in the cluster. Existing entries are kept, missing ones are added."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

KEEP = {"helm.sh/resource-policy": "keep"}
LABELS = {"app.kubernetes.io/name": "kommuna", "app.kubernetes.io/managed-by": "kommuna.cluster.secrets"}
OPAQUE = "Opaque"


@dataclass(frozen=True)
class Secret:
    """A Secret of the cluster."""

    data: dict[str, bytes]
    kind: str = OPAQUE
    annotations: dict[str, str] = field(default_factory=dict)
    version: str = ""


class Secrets(Protocol):
    """A store of Secrets: Kubernetes, or memory in a test."""

    def read(self, namespace: str, name: str) -> Secret | None:
        """Returns the Secret; None if it does not exist."""

    def create(self, namespace: str, name: str, secret: Secret, labels: Mapping[str, str]) -> bool:
        """Creates it; returns False if it exists by now.

        Args:
            namespace: the Secret's namespace.
            name: its name.
            secret: its type, entries and annotations; `version` has no effect.
            labels: its labels.
        """

    def replace(self, namespace: str, name: str, secret: Secret) -> bool:
        """Writes data and annotations; returns False if it has changed since it was read, or is gone.

        Args:
            namespace: the Secret's namespace.
            name: its name.
            secret: the new entries and annotations, with the `version` of the Secret that was read.
        """


class Vault:
    """Creates Secrets and keeps them up to date.

    Attributes:
        adopted: the number of Secrets that an earlier release of the chart made and Helm would have removed.
    """

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self.adopted = 0

    def read(self, namespace: str, name: str) -> Secret | None:
        """Returns a Secret; None if it does not exist."""
        return self._secrets.read(namespace, name)

    def ensure(
        self,
        namespace: str,
        name: str,
        change: Callable[[dict[str, bytes]], Mapping[str, bytes]],
        *,
        kind: str = OPAQUE,
        labels: Mapping[str, str] | None = None,
    ) -> dict[str, bytes]:
        """Creates or updates a Secret, and returns its entries. Retries after a concurrent change.

        Args:
            namespace: the Secret's namespace.
            name: the Secret's name.
            change: returns the wanted entries, given the existing ones (none if there is no Secret).
            kind: the type of a new Secret.
            labels: labels of a new Secret, besides `LABELS`.
        """
        while True:
            known = self._secrets.read(namespace, name)
            if known is None:
                wanted = dict(change({}))
                made = Secret(wanted, kind, KEEP)
                if self._secrets.create(namespace, name, made, {**LABELS, **(labels or {})}):
                    return wanted
                continue
            wanted = dict(change(dict(known.data)))
            kept = known.annotations.items() >= KEEP.items()
            if kept and wanted == known.data:
                return wanted
            changed = Secret(wanted, known.kind, {**known.annotations, **KEEP}, known.version)
            if self._secrets.replace(namespace, name, changed):
                self.adopted += not kept
                return wanted


class KubernetesSecrets:
    """The Secrets of the cluster that this pod runs in, as far as its service account has rights."""

    def __init__(self) -> None:
        from kubernetes import client, config

        config.load_incluster_config()
        self._api = client.CoreV1Api()

    def read(self, namespace: str, name: str) -> Secret | None:
        """Returns the Secret; None if it does not exist."""
        from kubernetes.client import ApiException

        try:
            found = self._api.read_namespaced_secret(name, namespace)
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        data = {key: base64.b64decode(value) for key, value in (found.data or {}).items()}
        meta = found.metadata
        return Secret(data, found.type or OPAQUE, dict(meta.annotations or {}), meta.resource_version)

    def create(self, namespace: str, name: str, secret: Secret, labels: Mapping[str, str]) -> bool:
        """Creates it; returns False if it exists by now.

        Args:
            namespace: the Secret's namespace.
            name: its name.
            secret: its type, entries and annotations; `version` has no effect.
            labels: its labels.
        """
        meta = {"name": name, "namespace": namespace, "labels": dict(labels), "annotations": secret.annotations}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": secret.kind, "data": _coded(secret)}
        return _unless_changed(lambda: self._api.create_namespaced_secret(namespace, body))

    def replace(self, namespace: str, name: str, secret: Secret) -> bool:
        """Writes data and annotations; returns False if it has changed since it was read, or is gone.

        Args:
            namespace: the Secret's namespace.
            name: its name.
            secret: the new entries and annotations, with the `version` of the Secret that was read.
        """

        def write() -> None:
            body = self._api.read_namespaced_secret(name, namespace)
            body.metadata.resource_version = secret.version  # so that a write between reading and now is not lost
            body.metadata.annotations, body.data = secret.annotations, _coded(secret)
            self._api.replace_namespaced_secret(name, namespace, body)

        return _unless_changed(write)


def _unless_changed(write: Callable[[], Any]) -> bool:
    from kubernetes.client import ApiException

    try:
        write()
    except ApiException as error:
        if error.status in (404, 409):
            return False
        raise
    return True


def _coded(secret: Secret) -> dict[str, str]:
    return {key: base64.b64encode(value).decode() for key, value in secret.data.items()}

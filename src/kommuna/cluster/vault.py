"""`Vault`: the platform's Secrets in the cluster. What a Secret holds already is kept; only what it lacks is put in."""

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
    """A Secret as the cluster has it."""

    data: dict[str, bytes]
    kind: str = OPAQUE
    annotations: dict[str, str] = field(default_factory=dict)
    version: str = ""


class Secrets(Protocol):
    """Where Secrets are: Kubernetes, or a test's own memory."""

    def read(self, namespace: str, name: str) -> Secret | None:
        """The Secret, None where there is none."""

    def create(self, namespace: str, name: str, secret: Secret, labels: Mapping[str, str]) -> bool:
        """Makes it; False where there is one by now."""

    def replace(self, namespace: str, name: str, secret: Secret) -> bool:
        """Writes data and annotations; False where it has changed since it was read, or is gone."""


class Vault:
    """Makes Secrets and keeps them.

    Attributes:
        adopted: how many Secrets an earlier release of the chart had made, and Helm would have removed.
    """

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self.adopted = 0

    def read(self, namespace: str, name: str) -> Secret | None:
        """A Secret, None where there is none."""
        return self._secrets.read(namespace, name)

    def hold(
        self,
        namespace: str,
        name: str,
        change: Callable[[dict[str, bytes]], Mapping[str, bytes]],
        *,
        kind: str = OPAQUE,
        labels: Mapping[str, str] | None = None,
    ) -> dict[str, bytes]:
        """The Secret's entries once they are as wanted.

        Args:
            change: the wanted entries, by those that are there (none where there is no Secret).
            kind: the Secret's type where it is made.
            labels: beside `LABELS`, where it is made.
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
    """The Secrets of the cluster that this pod runs in, as far as its service account's roles reach."""

    def __init__(self) -> None:
        from kubernetes import client, config

        config.load_incluster_config()
        self._api = client.CoreV1Api()

    def read(self, namespace: str, name: str) -> Secret | None:
        """The Secret, None where there is none."""
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
        """Makes it; False where there is one by now."""
        meta = {"name": name, "namespace": namespace, "labels": dict(labels), "annotations": secret.annotations}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": secret.kind, "data": _coded(secret)}
        return _unless_changed(lambda: self._api.create_namespaced_secret(namespace, body))

    def replace(self, namespace: str, name: str, secret: Secret) -> bool:
        """Writes data and annotations; False where it has changed since it was read, or is gone."""

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

"""`kommuna models manifest`: what runs a registered version as a service in its team's namespace."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer
import yaml

from kommuna.cli.here import installation, team_of_model
from kommuna.errors import SpecError
from kommuna.spec.names import owner_of
from kommuna.steps.registry.model_version import CHAMPION, ModelVersion

app = typer.Typer()

PORT = 8080
_PINNED = re.compile(r"\S+@sha256:[0-9a-f]{64}")
# As MLflow's image has it, without its proxy, which runs as root.
_COMMAND = ("python", "-m", "mlflow", "models", "serve", "-m", "/opt/ml/model", "--env-manager", "local")
_RESOURCES = {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"}


class Kind(StrEnum):
    """What runs the service."""

    deployment = "deployment"
    kserve = "kserve"


@dataclass(frozen=True)
class Served:
    """A version, the image that serves it, and the resources of one pod.

    Attributes:
        version: the registered version.
        image: made by `mlflow models build-docker`, named by its digest.
    """

    version: ModelVersion
    image: str

    def __post_init__(self) -> None:
        if not _PINNED.fullmatch(self.image):
            raise SpecError(
                f"the image '{self.image}' is not named by its digest, so it may change",
                fix="write REGISTRY/NAME@sha256:…, as `docker push` prints it",
            )

    @property
    def name(self) -> str:
        """The service's name: the model's, as Kubernetes takes it."""
        bare = self.version.name.partition("__")[2] or self.version.name
        return f"model-{re.sub('[^a-z0-9]+', '-', bare.lower()).strip('-')}"[:50].strip("-")

    @property
    def metadata(self) -> dict[str, Any]:
        """Name, labels and annotations of every object."""
        labels = {"app.kubernetes.io/name": self.name, "kommuna/team": owner_of(self.version.name) or ""}
        about = {
            "kommuna/model": f"{self.version.name}/{self.version.version}",
            "kommuna/model-digest": self.version.model_digest,
        }
        return {"name": self.name, "labels": labels, "annotations": about}

    def pod(self, container: str) -> dict[str, Any]:
        """Returns a pod that the admission policy of a team's namespace lets in.

        Args:
            container: the container's name.
        """
        probe = {"httpGet": {"path": "/ping", "port": PORT}}
        settings = {"HOME": "/tmp", "POLARS_MAX_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
        return {
            "serviceAccountName": "worker",
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 50000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": container,
                    "image": self.image,
                    "command": [*_COMMAND, "--host", "0.0.0.0", "--port", str(PORT), "--workers", "1"],
                    "env": [{"name": name, "value": value} for name, value in settings.items()],
                    "ports": [{"containerPort": PORT, "protocol": "TCP"}],
                    "readinessProbe": probe,
                    "startupProbe": probe | {"periodSeconds": 2, "failureThreshold": 60},
                    "resources": {"requests": dict(_RESOURCES), "limits": dict(_RESOURCES)},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                }
            ],
            "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
        }

    def objects(self, kind: Kind) -> list[dict[str, Any]]:
        """Returns the objects of Kubernetes, without a namespace: `kubectl apply -n` names it."""
        selector = {"app.kubernetes.io/name": self.name}
        # The namespace lets nobody in: these are the callers, for MLOps to change.
        policy = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": self.metadata,
            "spec": {
                "podSelector": {"matchLabels": selector},
                "policyTypes": ["Ingress"],
                "ingress": [{"from": [{"podSelector": {}}], "ports": [{"protocol": "TCP", "port": PORT}]}],
            },
        }
        if kind is Kind.kserve:
            about = self.metadata["annotations"] | {"serving.kserve.io/deploymentMode": "RawDeployment"}
            service = {
                "apiVersion": "serving.kserve.io/v1beta1",
                "kind": "InferenceService",
                "metadata": self.metadata | {"annotations": about},
                "spec": {
                    "predictor": {"minReplicas": 1, "labels": self.metadata["labels"], **self.pod("kserve-container")}
                },
            }
            return [service, policy]
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": self.metadata,
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": selector},
                "template": {
                    "metadata": {name: self.metadata[name] for name in ("labels", "annotations")},
                    "spec": self.pod("model"),
                },
            },
        }
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self.metadata,
            "spec": {"selector": selector, "ports": [{"port": 80, "targetPort": PORT, "protocol": "TCP"}]},
        }
        return [deployment, service, policy]


@app.command()
def manifest(
    name: Annotated[str, typer.Argument(help="The registered model, with its team: support__topics.")],
    image: Annotated[
        str, typer.Option(help="The image that `mlflow models build-docker` made, by digest: REGISTRY/NAME@sha256:….")
    ],
    version: Annotated[str, typer.Option(help="The version; the champion if absent.")] = "",
    kind: Annotated[Kind, typer.Option(help="What runs it.")] = Kind.deployment,
) -> None:
    """Print what serves a version in its team's namespace: `… | kubectl apply -n kommuna-support -f -`."""
    objects = Served(_version(name, version), image).objects(kind)
    typer.echo(yaml.safe_dump_all(objects, sort_keys=False), nl=False)


def _version(name: str, version: str) -> ModelVersion:
    from kommuna.steps.registry.client import Registry

    registry = Registry.from_services(installation().services(team_of_model(name)))
    found = registry.version(name, version) if version else registry.by_alias(name, CHAMPION)
    if found is None:
        what = f"version {version}" if version else "champion"
        raise SpecError(f"'{name}' has no {what}", fix=f"`kommuna models list {name}` shows its versions")
    return found

"""`Door` and `Network`: where pods of teams, the API server and MLflow may connect on Kubernetes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from kommuna.spec.base import Spec

Peer = Annotated[dict[str, Any], Field(min_length=1)]  # of a NetworkPolicy: an empty one is everything


class Door(Spec):
    """An egress rule of a NetworkPolicy: to whom, and at which ports."""

    to: tuple[Peer, ...] = Field(min_length=1, description="Peers of a NetworkPolicy: ipBlock, or selectors of pods.")
    ports: tuple[dict[str, Any], ...] = Field(min_length=1, description="Ports of a NetworkPolicy.")


_DNS = Door(
    to=(
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        },
    ),
    ports=({"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}),
)


class Network(Spec):
    """The doors of teams' pods, the API server and MLflow, as egress rules; all others are the chart's."""

    enabled: bool = Field(True, description="False leaves the platform without network policies.")
    dns: Door = Field(_DNS, description="To the cluster's own DNS.")
    store: Door | None = Field(
        None,
        description="To the object store; needed with any team: {to: [{ipBlock: {cidr: …}}], "
        "ports: [{port: 443, protocol: TCP}]}.",
    )
    kubernetes: Door | None = Field(
        None,
        description="To the Kubernetes API; needed with any team. kubectl get endpointslices kubernetes names it.",
    )
    database: Door | None = Field(None, description="To the PostgreSQL that `database_secret` names; needed with it.")
    keycloak: Door | None = Field(None, description="To Keycloak, or its proxy; needed with `auth.kind: keycloak`.")

"""`ChartValues`: what MLOps writes to install the platform on Kubernetes. The Helm chart's schema comes from it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from kommuna.spec.base import Spec
from kommuna.spec.llm import Llms
from kommuna.spec.names import TeamName
from kommuna.spec.resources import Cpu, Memory
from kommuna.spec.team import Repository, Team

Rule = dict[str, Any]


class Images(Spec):
    """The images; all are pulled by these names."""

    airflow: str = Field(min_length=1, description="Control plane: the target `airflow` of docker/Dockerfile.")
    steps: str = Field(
        min_length=1, description="Worker pods, parsers and MLflow: the target `steps` of docker/Dockerfile."
    )
    postgresql: str = Field(min_length=1, description="The bundled database: any image with PostgreSQL's own programs.")
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    pull_secrets: tuple[str, ...] = Field(
        (), description="Secrets of the registry, beside the control plane; each team's namespace gets a copy."
    )


class Component(Spec):
    """One part of the control plane: how many pods, and what each is given."""

    replicas: int = Field(1, ge=1, le=10)
    cpu: Cpu = Field("250m", description="Requested cores of a pod; it may use more.")
    memory: Memory = Field("1Gi", description="Requested memory of a pod, and its limit.")


class Triggerer(Component):
    """What waits for deferred tasks: one for each team, in the control plane, without the teams' code."""

    replicas: int = Field(
        1, ge=0, le=10, description="Pods for each team. With none, a task that defers waits until there is one."
    )


class Mlflow(Component):
    """The model registry's server."""

    artifacts: str = Field(description="Where it keeps models: s3://BUCKET/PREFIX.")
    secret: str = Field("", description="Secret with its AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")


class Parser(Spec):
    """The pod that parses a team's DAG files, in the team's namespace, beside its quota."""

    processes: int = Field(2, ge=1, le=16, description="Files that it parses at one time.")
    file_memory: Memory = Field("512Mi", description="The most that parsing one file may use.")
    cpu: Cpu = "100m"
    memory: Memory = Field("1280Mi", description="Requested memory of the pod, and its limit.")


class Postgresql(Spec):
    """A database of the chart's own, for trials: one pod, no backup."""

    enabled: bool = True
    storage: str = Field("8Gi", description="Size of its volume; empty keeps it in the pod, and loses it with the pod.")
    storage_class: str = Field("", description="The volume's class; the cluster's default if empty.")
    cpu: Cpu = "100m"
    memory: Memory = "512Mi"


class Ingress(Spec):
    """How people reach Airflow, and MLflow's pages, from outside."""

    enabled: bool = False
    class_name: str = ""
    host: str = Field("", description="The name that people type; `url` must match.")
    mlflow_host: str = Field("", description="MLflow's name; its pages are not reached from outside if empty.")
    tls_secret: str = Field("", description="Secret with the certificate; none if empty.")
    annotations: dict[str, str] = Field(default_factory=dict)


class Network(Spec):
    """The doors in a team's default-deny policies, as egress rules of a NetworkPolicy; all others are the chart's."""

    enabled: bool = True
    dns: Rule = Field(description="To the cluster's DNS.")
    store: Rule = Field(description="To the object store.")
    git: Rule = Field(description="To the Git servers.")
    kubernetes: Rule = Field(description="To the Kubernetes API, for teams with `own_images`.")


class ChartValues(Spec):
    """The chart's values."""

    teams: dict[TeamName, Team] = Field(default_factory=dict, description="Every team, by name.")
    repository: Repository | None = Field(None, description="The repository of teams that have none of their own.")
    store: str = Field(pattern=r"^s3://", description="Where artifacts and logs live: s3://BUCKET/PREFIX.")
    store_options: dict[str, Any] = Field(
        default_factory=dict, description="s3fs options of the store (endpoint_url …)."
    )
    store_secret: str = Field(
        "", description="Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY that read every team's prefix."
    )
    llm: Llms = Field(default_factory=Llms, description="LLM endpoints of `ask` rules and of rule proposals.")
    url: str = Field(pattern=r"^https?://", description="Airflow's address, as people type it.")
    images: Images
    database_secret: str = Field(
        "", description="Secret with the keys `airflow` and `mlflow`: SQLAlchemy URLs of an external PostgreSQL."
    )
    passwords_secret: str = Field(
        "", description="Secret with the key `passwords.json`: login to password; made by a job of the chart if empty."
    )
    postgresql: Postgresql
    api_server: Component
    scheduler: Component
    dag_processor: Component
    triggerer: Triggerer
    mlflow: Mlflow
    parser: Parser
    ingress: Ingress
    network: Network

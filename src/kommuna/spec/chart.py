"""`ChartValues`: what MLOps writes to install the platform on Kubernetes. The chart's values come from it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from kommuna import __version__
from kommuna.spec.auth import Auth
from kommuna.spec.base import Spec
from kommuna.spec.llm import Llms
from kommuna.spec.names import TeamName
from kommuna.spec.network import Network
from kommuna.spec.resources import Cpu, Memory
from kommuna.spec.team import TASK_REQUEST_LIMIT, Repository, Team


class Images(Spec):
    """The images; all are pulled by these names."""

    airflow: str = Field(
        f"kommuna/airflow:{__version__}",
        min_length=1,
        description="Control plane: the target `airflow` of docker/Dockerfile.",
    )
    steps: str = Field(
        f"kommuna/steps:{__version__}",
        min_length=1,
        description="Worker pods, parsers and MLflow: the target `steps` of docker/Dockerfile.",
    )
    postgresql: str = Field(
        "postgres:16", min_length=1, description="The bundled database: any image with PostgreSQL's own programs."
    )
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        "IfNotPresent", description="When a node pulls an image."
    )
    pull_secrets: tuple[str, ...] = Field(
        (), description="Secrets of the registry, beside the control plane; each team's namespace gets a copy."
    )


class Component(Spec):
    """One part of the control plane: how many pods, and what each is given."""

    replicas: int = Field(1, ge=1, le=10, description="Pods.")
    cpu: Cpu = Field("250m", description="Requested cores of a pod; it may use more.")
    memory: Memory = Field("1Gi", description="Requested memory of a pod, and its limit.")


class Triggerer(Component):
    """What waits for deferred tasks: one for each team, in the control plane, without the teams' code."""

    replicas: int = Field(
        1, ge=0, le=10, description="Pods for each team. With none, a task that defers waits until there is one."
    )


class Mlflow(Component):
    """The model registry's server."""

    artifacts: str = Field("s3://kommuna/mlflow", description="Where it keeps models: s3://BUCKET/PREFIX.")
    secret: str = Field("", description="Secret with its AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")


class Parser(Spec):
    """The pod that parses a team's DAG files, in the team's namespace, beside its quota."""

    processes: int = Field(2, ge=1, le=16, description="Files that it parses at one time.")
    file_memory: Memory = Field("512Mi", description="The most that parsing one file may use.")
    cpu: Cpu = Field("100m", description="Requested cores of the pod; it may use more.")
    memory: Memory = Field("1280Mi", description="Requested memory of the pod, and its limit.")


class Postgresql(Spec):
    """A database of the chart's own, for trials: one pod, no backup."""

    enabled: bool = Field(True, description="False where `database_secret` names a database of yours.")
    storage: str = Field("8Gi", description="Size of its volume; empty keeps it in the pod, and loses it with the pod.")
    storage_class: str = Field("", description="The volume's class; the cluster's default if empty.")
    cpu: Cpu = Field("100m", description="Requested cores of the pod; it may use more.")
    memory: Memory = Field("512Mi", description="Requested memory of the pod, and its limit.")


class Ingress(Spec):
    """How people reach Airflow, and MLflow's pages, from outside."""

    enabled: bool = Field(False, description="Whether the chart makes an Ingress.")
    class_name: str = Field("", description="Class of the Ingress; the cluster's default if empty.")
    host: str = Field("", description="The name that people type; `url` must match.")
    mlflow_host: str = Field("", description="MLflow's name; its pages are not reached from outside if empty.")
    tls_secret: str = Field("", description="Secret with the certificate; none if empty.")
    annotations: dict[str, str] = Field(default_factory=dict, description="Annotations of the Ingress.")
    proxies: tuple[str, ...] = Field(
        (),
        description="Addresses or networks of the proxies before Airflow, such as the Ingress controller's pods: what "
        "they say about a client's address is believed. Without them everybody has a proxy's address.",
    )


class TeamPods(Spec):
    """What the admission policy of the teams' namespaces lets a pod be, besides what is the same everywhere."""

    images: tuple[str, ...] = Field(
        (), description="Folders of registries that teams' images come from; that of images.steps if empty."
    )
    priority_classes: tuple[str, ...] = Field(
        (), description="Priority classes above 0 that teams' pods may have, such as the cluster's default class."
    )
    volume: Memory = Field("4Gi", description="The largest sizeLimit of an emptyDir.")


class ChartValues(Spec):
    """The chart's values."""

    teams: dict[TeamName, Team] = Field(
        default_factory=dict,
        description="Every team, by name, as in kommuna.yaml: support: {bundle: dags/support, people: {ann: op}, "
        'quota: {cpu: "8", memory: 32Gi, pods: 20}, store_secret: support-store}.',
    )
    repository: Repository | None = Field(
        None,
        description="Where DAG files come from, for teams without a repository of their own: "
        "{url: https://…, ref: main, secret: …}.",
    )
    store: str = Field(
        "s3://kommuna/teams",
        pattern=r"^s3://",
        description="Where artifacts and logs live: s3://BUCKET/PREFIX; each team's are below PREFIX/TEAM.",
    )
    store_options: dict[str, Any] = Field(
        default_factory=dict, description="s3fs options of the store (endpoint_url …)."
    )
    store_secret: str = Field(
        "", description="Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY that read every team's prefix."
    )
    llm: Llms = Field(default_factory=Llms, description="LLM endpoints of `ask` rules and of rule proposals.")
    task_request_limit: Memory = TASK_REQUEST_LIMIT
    url: str = Field(
        "http://localhost:8080", pattern=r"^https?://", description="Airflow's address, as people type it."
    )
    images: Images = Field(Images(), description="The images; all are pulled by these names.")
    database_secret: str = Field(
        "", description="Secret with the keys `airflow` and `mlflow`: SQLAlchemy URLs of an external PostgreSQL."
    )
    passwords_secret: str = Field(
        "", description="Secret with the key `passwords.json`: login to password; made by a job of the chart if empty."
    )
    auth: Auth = Field(
        Auth(),
        description="How people log in: by Keycloak in production, or by Airflow's simple auth manager in trials.",
    )
    postgresql: Postgresql = Field(
        Postgresql(), description="The chart's own database, for trials: one pod, no backup."
    )
    api_server: Component = Field(Component(memory="2Gi"), description="Airflow's pages and APIs.")
    scheduler: Component = Field(Component(memory="2Gi"), description="Airflow's scheduler.")
    dag_processor: Component = Field(
        Component(cpu="50m", memory="768Mi"), description="Reads what parsers made of DAG files, and admits it."
    )
    triggerer: Triggerer = Field(
        Triggerer(cpu="50m", memory="512Mi"),
        description="Waits for deferred tasks: for each team, in the control plane, without the team's code.",
    )
    mlflow: Mlflow = Field(Mlflow(memory="2Gi"), description="The model registry's server.")
    parser: Parser = Field(Parser(), description="Parses a team's DAG files, in its namespace, beside its quota.")
    ingress: Ingress = Field(Ingress(), description="How people reach Airflow, and MLflow's pages, from outside.")
    team_pods: TeamPods = Field(
        TeamPods(),
        description="What the admission policy allows for pods of teams, in addition to its fixed rules.",
    )
    network: Network = Field(
        Network(),
        description="The doors in the teams' default-deny network policies, as egress rules; others are the chart's.",
    )

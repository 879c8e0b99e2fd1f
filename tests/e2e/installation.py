"""The platform under test: a cluster, its fixtures (object store, Git server), the installed chart, and its API."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import requests
import yaml

from kommuna.clients.airflow import AirflowApi, login
from kommuna.clients.airflow import Run as DagRun
from kommuna.errors import PlatformFault
from kommuna.outages import RetryPolicy
from kommuna.spec.pod import CONTAINER_SECURITY, POD, POD_SECURITY
from kommuna.waiting import wait_until

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
CHART = ROOT / "helm" / "kommuna"
BUILD = ROOT / "build" / "e2e"
CONTROL = "kommuna"
RESTART = RetryPolicy(first=2, longest=4, total=180)  # of Airflow's server


def run(*command: str | Path, env: dict[str, str] | None = None, stdin: str | None = None, check: bool = True) -> str:
    """Runs a command and returns what it printed; its error is in the exception's text."""
    done = subprocess.run(
        [str(part) for part in command], env=env, input=stdin, capture_output=True, text=True, check=False
    )
    if check and done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout


@dataclass(frozen=True)
class Cluster:
    """kubectl and Helm for one cluster."""

    env: dict[str, str] = field(repr=False)

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        return run("kubectl", *arguments, env=self.env, stdin=stdin, check=check)

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        return json.loads(self.kubectl("-n", namespace, "get", kind, name, "-o", "json"))

    def items(self, kind: str, namespace: str, *options: str) -> list[dict[str, Any]]:
        return json.loads(self.kubectl("-n", namespace, "get", kind, *options, "-o", "json"))["items"]

    def secret(self, name: str, key: str, namespace: str = CONTROL) -> str:
        return base64.b64decode(self.get("secret", name, namespace)["data"][key]).decode()

    def helm(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["helm", *map(str, arguments)], env=self.env, capture_output=True, text=True, check=False)

    @property
    def is_ours(self) -> bool:
        """Whether it is the test cluster, in which everything may be removed."""
        return "KOMMUNA_CLUSTER_SERVICE_RANGE" in self.env

    def address(self, service: str, namespace: str, port: int) -> str:
        """Returns HOST:PORT of a service: by a route to the test cluster's services, otherwise by port-forward."""
        if self.is_ours:
            return f"{self.get('service', service, namespace)['spec']['clusterIP']}:{port}"
        return self.forwarded(service, namespace, port)

    def forwarded(self, service: str, namespace: str, port: int) -> str:
        """Returns HOST:PORT of a service by port-forward, which bypasses network policies."""
        forward = subprocess.Popen(
            ["kubectl", "-n", namespace, "port-forward", f"service/{service}", f":{port}"],
            env=self.env, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert forward.stdout is not None
        return "127.0.0.1:" + forward.stdout.readline().split(":")[1].split()[0]


class Airflow:
    """Airflow's REST API as one user, who waits for a server that restarts."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url
        self._login = (user, password)

    @cached_property
    def token(self) -> str:
        """The user's token."""
        return login(self.url, *self._login)

    @cached_property
    def api(self) -> AirflowApi:
        """The platform's own client."""
        return AirflowApi(self.url, self.token, policy=RESTART)

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.api.request(method, path, timeout=60, **options)

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        answer = self.call("GET", path, params=params)
        assert answer.ok, f"GET {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    def dags(self) -> list[str]:
        return self.api.dag_ids()

    def import_errors(self) -> dict[str, str]:
        return {e["filename"]: e["stack_trace"] for e in self.api.items("/importErrors", "import_errors")}

    def trigger(self, dag: str, **conf: Any) -> Run:
        return Run(self.api, self.api.trigger(dag, conf))


@dataclass(frozen=True)
class Run:
    """One DAG run, read anew at each call."""

    api: AirflowApi = field(repr=False)
    known: DagRun

    @property
    def dag(self) -> str:
        return self.known.dag_id

    @property
    def run_id(self) -> str:
        return self.known.run_id

    @property
    def path(self) -> str:
        return f"/dags/{self.dag}/dagRuns/{self.run_id}"

    @property
    def state(self) -> str:
        self.api.refresh(self.known)
        return self.known.state

    def tasks(self) -> dict[str, dict[str, Any]]:
        return {task["task_id"]: task for task in self.api.task_instances(self.known)}

    def states(self) -> dict[str, str]:
        self.api.refresh(self.known)
        return self.known.tasks

    def wait(self, *, seconds: float = 900) -> str:
        """Waits for the run's end; returns its state."""

        def late() -> AssertionError:
            return AssertionError(f"{self.dag} did not end in {seconds:g} seconds: {self.known.tasks}")

        wait_until("it ended", lambda: self.state in ("success", "failed"), seconds=seconds, late=late)
        return self.known.state

    def succeed(self, *, seconds: float = 900) -> None:
        state = self.wait(seconds=seconds)
        if state != "success":
            ill = [name for name, found in self.states().items() if found == "failed"]
            raise AssertionError(f"{self.dag}: " + "\n".join(f"{name}: {self.log(name)[-2500:]}" for name in ill))

    def result(self, task: str) -> Any:
        return self.api.result(self.known, task)

    def log(self, task: str, *words: str) -> str:
        """Waits until the task's log contains some words; returns the log after half a minute in any case.

        A pod sends its log to the store a moment after its task has ended; of a task that waited, the first part is
        there already."""
        text = ""

        def whole() -> bool:
            nonlocal text
            text = "\n".join(self.api.log(self.known, task))
            return "Could not read served logs" not in text and all(part in text for part in words)

        with suppress(PlatformFault):
            wait_until("the log is whole", whole, seconds=30, every=1)
        return text


@dataclass
class Installation:
    """The chart installed on a cluster."""

    cluster: Cluster
    images: dict[str, str]
    values: dict[str, Any]

    def namespace(self, team: str) -> str:
        return f"{CONTROL}-{team}"

    def upgrade(self, values: dict[str, Any], *options: str, chart: Path = CHART) -> subprocess.CompletedProcess[str]:
        """`helm upgrade --install` with these values."""
        BUILD.mkdir(parents=True, exist_ok=True)
        file = BUILD / "values.yaml"
        file.write_text(yaml.safe_dump(values))
        return self.cluster.helm(
            "upgrade",
            "--install",
            CONTROL,
            chart,
            "--namespace",
            CONTROL,
            "--values",
            file,
            "--timeout",
            "15m",
            *options,
        )

    @cached_property
    def _airflow_url(self) -> str:
        return f"http://{self.cluster.address('kommuna-api-server', CONTROL, 8080)}"

    def airflow(self, user: str = "admin") -> Airflow:
        passwords = json.loads(self.cluster.secret("kommuna-passwords", "passwords.json"))
        return Airflow(self._airflow_url, user, passwords[user])

    @cached_property
    def mlflow_url(self) -> str:
        return f"http://{self.cluster.forwarded('kommuna-mlflow', CONTROL, 5000)}"

    @cached_property
    def store_url(self) -> str:
        return f"http://{self.cluster.address('minio', 'fixtures', 9000)}"

    def workers(self, team: str) -> list[dict[str, Any]]:
        """Returns the team's worker pods that have not ended."""
        pods = self.cluster.items("pods", self.namespace(team), "-l", "app.kubernetes.io/component=worker")
        return [pod for pod in pods if pod["status"]["phase"] in ("Pending", "Running")]

    def secrets(self) -> dict[str, dict[str, str]]:
        """Returns the content of every Secret of the platform, by namespace and name."""
        places = [(CONTROL, name) for name in ("keys", "passwords", "database", "parser-authority")]
        places += [(CONTROL, f"parser-{team}") for team in self.values["teams"]]
        found = {(space, f"{CONTROL}-{name}") for space, name in places}
        found |= {(self.namespace(team), name) for team in self.values["teams"] for name in ("worker", "parser")}
        return {f"{space}/{name}": self.cluster.get("secret", name, space)["data"] for space, name in sorted(found)}

    def python(self, code: str, namespace: str, labels: dict[str, str], *, env_from: str = "") -> str:
        """Runs Python in a pod of a namespace with some labels, to test what it can reach; returns the output."""
        name = f"probe-{time.monotonic_ns() % 10**9}"
        container: dict[str, Any] = {
            "name": "probe", "image": self.images["steps"], "command": ["python", "-c", code],
            "securityContext": CONTAINER_SECURITY,
            "resources": {
                "requests": {"cpu": "10m", "memory": "128Mi", "ephemeral-storage": "16Mi"},
                "limits": {"cpu": "500m", "memory": "256Mi", "ephemeral-storage": "64Mi"},
            },
        }  # fmt: skip
        if env_from:
            container["envFrom"] = [{"secretRef": {"name": env_from}}]
        pod = {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {
                **POD, "automountServiceAccountToken": False,
                **({"serviceAccountName": "worker"} if namespace in map(self.namespace, self.values["teams"]) else {}),
                "activeDeadlineSeconds": 600,  # as every pod that is not the platform's
                "securityContext": POD_SECURITY,
                "containers": [container],
            },
        }  # fmt: skip
        wait_until(f"the quota of {namespace} has room for {name}", lambda: self._made(pod), seconds=300)
        try:
            wait_until(
                f"{name} ended",
                lambda: self.cluster.get("pod", name, namespace)["status"]["phase"] in ("Succeeded", "Failed"),
            )
            return self.cluster.kubectl("-n", namespace, "logs", name)
        finally:
            self.cluster.kubectl("-n", namespace, "delete", "pod", name, "--grace-period=0", "--force", check=False)

    def _made(self, pod: dict[str, Any]) -> bool:
        """Creates a pod; returns False if the namespace's quota is full."""
        try:
            self.cluster.kubectl("create", "-f", "-", stdin=json.dumps(pod))
        except AssertionError as refusal:
            if "exceeded quota" not in str(refusal):
                raise
            return False
        return True


class Repository:
    """The teams' Git repository: a working copy here, pushed to the server in the cluster."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self._url = url
        run("git", "init", "--quiet", "--initial-branch", "main", folder)
        self._git("config", "user.name", "e2e")
        self._git("config", "user.email", "e2e@example")

    def push(self, message: str) -> None:
        """Commits everything and pushes it."""
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "--message", message)
        self._git("push", "--quiet", "--force", self._url, "main")

    def _git(self, *arguments: str) -> None:
        run("git", "-C", self.folder, *arguments, env={**os.environ, "GIT_TERMINAL_PROMPT": "0"})


@contextmanager
def collected_on_failure(cluster: Cluster, failed: Callable[[], bool]) -> Iterator[None]:
    """Saves diagnostics in build/e2e: each pod's log and state, events, and Helm's status."""
    try:
        yield
    finally:
        if failed():
            collect(cluster)


def collect(cluster: Cluster) -> None:
    """Writes logs, events and states of all our namespaces to build/e2e."""
    BUILD.mkdir(parents=True, exist_ok=True)
    everything = json.loads(cluster.kubectl("get", "pods", "-A", "-o", "json", check=False) or '{"items": []}')["items"]
    for pod in everything:
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        if not namespace.startswith((CONTROL, "fixtures")):
            continue
        folder = BUILD / namespace
        folder.mkdir(exist_ok=True)
        for suffix, options in (("log", []), ("previous.log", ["--previous"])):
            text = cluster.kubectl("-n", namespace, "logs", name, "--all-containers", *options, check=False)
            if text:
                (folder / f"{name}.{suffix}").write_text(text)
    for name, arguments in {
        "events.txt": ["get", "events", "-A", "--sort-by", ".lastTimestamp"],
        "pods.txt": ["get", "pods", "-A", "-o", "wide"],
        "pods.describe.txt": ["describe", "pods", "-A"],
    }.items():
        (BUILD / name).write_text(cluster.kubectl(*arguments, check=False))
    (BUILD / "helm.txt").write_text(cluster.helm("status", CONTROL, "-n", CONTROL).stdout)

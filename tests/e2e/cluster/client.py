"""A client of the test cluster: kubectl in one namespace, and the pods and policies of the tests."""

import json
import subprocess
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kommuna.errors import PlatformFault
from kommuna.waiting import wait_until


def environment(state: Path) -> dict[str, str]:
    """Returns the variables that `<state>/env` sets, as a shell would."""
    shell = f". {state}/env && env -0"
    lines = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True).stdout.split("\0")
    return dict(line.split("=", 1) for line in lines if "=" in line)


@dataclass(frozen=True)
class Cluster:
    """kubectl in one namespace of the cluster."""

    env: dict[str, str]
    namespace: str = "default"

    def run(self, *arguments: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = ["kubectl", "--namespace", self.namespace, *arguments]
        done = subprocess.run(command, env=self.env, input=stdin, capture_output=True, text=True, timeout=120)
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done

    def kubectl(self, *arguments: str) -> str:
        return self.run(*arguments).stdout

    def apply(self, *objects: dict, check: bool = True) -> subprocess.CompletedProcess[str]:
        manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        return self.run("apply", "--filename", "-", stdin=manifest, check=check)

    def create(self, made: dict, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Creates one object; stderr has the reason if it is refused."""
        return self.run("create", "--filename", "-", *arguments, stdin=json.dumps(made), check=False)

    def start(self, *pods: dict) -> None:
        """Applies pods and waits until they are ready."""
        self.apply(*pods)
        names = [f"pod/{pod['metadata']['name']}" for pod in pods]
        self.kubectl("wait", "--for=condition=Ready", "--timeout=60s", *names)

    def field(self, kind: str, name: str, path: str) -> str:
        return self.kubectl("get", kind, name, "--output", f"jsonpath={{{path}}}")

    def sh(self, name: str, script: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a busybox shell script in a pod."""
        return self.run("exec", name, "--", "/busybox", "sh", "-c", script, check=check)


def eventually(holds: Callable[[], bool], seconds: float = 30) -> bool:
    """Whether a condition becomes true in time."""
    try:
        return wait_until("it holds", holds, seconds=seconds, every=0.3)
    except PlatformFault:
        return False


def busybox(name: str, script: str = "while :; do /busybox sleep 1; done", **spec: object) -> dict:
    """Returns a pod with one container that runs a busybox shell script as an ordinary user."""
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "main",
        "image": "localhost/busybox:e2e",
        "imagePullPolicy": "Never",
        "command": ["/busybox", "sh", "-c", script],
        "securityContext": security,
        **spec,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1, "restartPolicy": "Never"},
    }


def web(name: str) -> dict:
    """Returns a pod that answers HTTP on port 8000 with its name."""
    return busybox(name, f"echo {name} > /tmp/index.html; exec /busybox httpd -f -p 8000 -h /tmp")


def policy(name: str, spec: dict) -> dict:
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec}


def reaches(cluster: Cluster, client: str, address: str, port: int = 8000) -> bool:
    """Whether a pod can connect to an address within two seconds."""
    return cluster.sh(client, f"/busybox nc -w 2 {address} {port} -e /busybox true", check=False).returncode == 0


def fetch(url: str) -> str:
    """Returns the response to a request from the machine, or the error."""
    try:
        return urllib.request.urlopen(url, timeout=5).read().decode()
    except OSError as error:
        return str(error)

"""Pods that a team with `own_images` tries to start, and what its service account tries to do."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Callable
from typing import Any

from tests.e2e.attacks.ledger import Line
from tests.e2e.installation import CONTROL, Installation

from kommuna.airflow.operators.image import pod_of
from kommuna.spec.resources import Resources

POLICY = "admission policy"
QUOTA = "quota"
SECURITY = "Pod Security"
RBAC = "RBAC"
LAUNCHER = "system:serviceaccount:kommuna-bench:launcher"
Pod = dict[str, Any]


def ordinary(installation: Installation, team: str = "bench") -> Pod:
    """Returns the pod of an `ImageOperator`, as it is allowed."""
    pod = copy.deepcopy(pod_of(team, Resources(cpu="10m", memory="64Mi")))
    pod["metadata"] |= {"name": "attack", "namespace": installation.namespace(team)}
    pod["spec"]["containers"][0] |= {"image": installation.images["steps"], "command": ["true"]}
    pod["spec"] |= {"activeDeadlineSeconds": 60, "affinity": {}, "nodeSelector": {}, "tolerations": []}
    return pod


def _spec(**values: Any) -> Callable[[Pod], None]:
    return lambda pod: pod["spec"].update(values)


def _label(name: str, value: str) -> Callable[[Pod], None]:
    return lambda pod: pod["metadata"]["labels"].update({name: value})


def _note(name: str, value: str) -> Callable[[Pod], None]:
    return lambda pod: pod["metadata"].setdefault("annotations", {}).update({name: value})


def _container(**values: Any) -> Callable[[Pod], None]:
    return lambda pod: pod["spec"]["containers"][0].update(values)


def _volume(**values: Any) -> Callable[[Pod], None]:
    return lambda pod: pod["spec"]["volumes"].append({"name": "more", **values})


def _security(**values: Any) -> Callable[[Pod], None]:
    return lambda pod: pod["spec"]["containers"][0].update(
        securityContext={**pod["spec"]["containers"][0]["securityContext"], **values}
    )


def _big(**amounts: str) -> Callable[[Pod], None]:
    named = {name.replace("_", "-"): amount for name, amount in amounts.items()}
    resources = {"cpu": "10m", "memory": "64Mi", "ephemeral-storage": "1Gi"} | named
    return _container(resources={"requests": resources, "limits": resources})


def _init(pod: Pod) -> None:
    pod["spec"]["initContainers"] = [{**pod["spec"]["containers"][0], "name": "first", "image": "evil.example/x:1"}]


CASES: dict[str, tuple[str, Callable[[Pod], None]]] = {
    "a pod with another team's label": (POLICY, _label("kommuna/team", "fraud")),
    "a pod that poses as the parser": (POLICY, _label("app.kubernetes.io/component", "parser")),
    "a pod that poses as the API server": (POLICY, _label("app.kubernetes.io/component", "api-server")),
    "a pod that poses as a task, by its label": (POLICY, _label("airflow-worker", "1")),
    "a pod that poses as a task of the executor": (POLICY, _label("kubernetes_executor", "True")),
    "a pod that poses as another team's task": (POLICY, _note("dag_id", "fraud__cards")),
    "a pod with the launcher's service account": (POLICY, _spec(serviceAccountName="launcher")),
    "a pod with the default service account": (POLICY, _spec(serviceAccountName="default")),
    "a pod with a service account token": (POLICY, _spec(automountServiceAccountToken=True)),
    "a pod on a node that it names": (POLICY, _spec(nodeName="node0")),
    "a pod that selects a node": (POLICY, _spec(nodeSelector={"kubernetes.io/hostname": "node0"})),
    "a pod beside another team's pods": (
        POLICY,
        _spec(
            affinity={
                "podAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [
                        {"topologyKey": "kubernetes.io/hostname", "namespaceSelector": {}, "labelSelector": {}}
                    ]
                }
            }
        ),
    ),
    "a pod with a scheduler of its own": (POLICY, _spec(schedulerName="mine")),
    "a pod on the control plane's nodes": (
        POLICY, _spec(tolerations=[{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}]),
    ),
    "a pod that tolerates every taint": (POLICY, _spec(tolerations=[{"operator": "Exists"}])),
    "a pod of a system priority": (POLICY, _spec(priorityClassName="system-node-critical")),
    "a pod of an image from elsewhere": (POLICY, _container(image="evil.example/x:1")),
    "an init container of an image from elsewhere": (POLICY, _init),
    "a volume without a size": (POLICY, _volume(emptyDir={})),
    "a volume of 1 Ti": (POLICY, _volume(emptyDir={"sizeLimit": "1Ti"})),
    "a volume with a token for another audience": (
        POLICY,
        _volume(projected={"sources": [{"serviceAccountToken": {"path": "token", "audience": "vault"}}]}),
    ),
    "the parser's key as a volume": (POLICY, _volume(secret={"secretName": "parser"})),
    "the parser's key as environment": (POLICY, _container(envFrom=[{"secretRef": {"name": "parser"}}])),
    "the registry's login as a volume": (POLICY, _volume(secret={"secretName": "registry-login"})),
    "a volume claim": (POLICY, _volume(persistentVolumeClaim={"claimName": "x"})),
    "an NFS volume": (SECURITY, _volume(nfs={"server": "10.10.0.1", "path": "/"})),
    "the node's disk": (SECURITY, _volume(hostPath={"path": "/"})),
    "the node's network": (SECURITY, _spec(hostNetwork=True)),
    "the node's processes": (SECURITY, _spec(hostPID=True)),
    "a privileged container": (SECURITY, _security(privileged=True, allowPrivilegeEscalation=True)),
    "a container as root": (SECURITY, _security(runAsUser=0, runAsNonRoot=False)),
    "a container with a capability": (SECURITY, _security(capabilities={"add": ["SYS_ADMIN"], "drop": ["ALL"]})),
    "a container without seccomp": (SECURITY, _security(seccompProfile={"type": "Unconfined"})),
    "more memory than the quota": (QUOTA, _big(memory="9Gi")),
    "more cores than the quota": (QUOTA, _big(cpu="5")),
    "more disk than the quota": (QUOTA, _big(ephemeral_storage="90Gi")),
    "a pod without an end": (QUOTA, lambda pod: pod["spec"].pop("activeDeadlineSeconds")),
}  # fmt: skip
WORDS = {POLICY: "ValidatingAdmissionPolicy", SECURITY: "PodSecurity", QUOTA: ("exceeded quota", "maximum")}

RIGHTS = [
    ("delete", "validatingadmissionpolicies.admissionregistration.k8s.io", ""),
    ("update", "validatingadmissionpolicybindings.admissionregistration.k8s.io", ""),
    ("patch", "namespaces/kommuna-bench", ""),
    ("create", "pods", CONTROL),
    ("create", "pods", "kommuna-fraud"),
    ("get", "pods", "kommuna-fraud"),
    ("get", "secrets", "kommuna-bench"),
    ("get", "secrets", CONTROL),
    ("create", "pods --subresource=exec", "kommuna-bench"),
    ("update", "pods --subresource=ephemeralcontainers", "kommuna-bench"),
    ("create", "serviceaccounts --subresource=token", "kommuna-bench"),
    ("create", "jobs.batch", "kommuna-bench"),
    ("create", "deployments.apps", "kommuna-bench"),
    ("delete", "networkpolicies.networking.k8s.io", "kommuna-bench"),
    ("delete", "resourcequotas", "kommuna-bench"),
    ("create", "rolebindings.rbac.authorization.k8s.io", "kommuna-bench"),
    ("create", "services", "kommuna-bench"),
    ("get", "nodes", ""),
]


def start(installation: Installation, name: str) -> Line:
    """Tries to create a pod as the team's launcher; nothing is kept."""
    layer, change = CASES[name]
    pod = ordinary(installation)
    change(pod)
    text = _created(installation, pod)
    words = WORDS[layer]
    found = [word for word in ([words] if isinstance(words, str) else words) if word in text]
    return Line(name, "pod", layer, bool(found), text.strip()[-300:])


def ask(installation: Installation, verb: str, what: str, namespace: str) -> Line:
    """Asks whether the launcher may do something."""
    command = ["auth", "can-i", verb, *what.split(), "--as", LAUNCHER, *(["-n", namespace] if namespace else [])]
    answer = installation.cluster.kubectl(*command, check=False).strip()
    return Line(f"{verb} {what} in {namespace or 'the cluster'}", "pod", RBAC, answer == "no", answer)


def allowed(installation: Installation) -> str:
    """Returns the API server's answer to the ordinary pod."""
    return _created(installation, ordinary(installation))


def _created(installation: Installation, pod: Pod) -> str:
    done = subprocess.run(
        ["kubectl", "create", "--dry-run=server", "--as", LAUNCHER, "-f", "-"],
        env=installation.cluster.env, input=json.dumps(pod), capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout if done.returncode == 0 else done.stderr

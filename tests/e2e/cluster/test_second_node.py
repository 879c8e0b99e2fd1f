"""A further node: pods on both reach each other, policies apply between them, and one may be lost.

It is not `node1`, which runs the steps of the other tests.
"""

import subprocess
from pathlib import Path

import pytest
from tests.e2e.cluster.client import Cluster, busybox, eventually, policy, reaches, web

HERE = Path(__file__).parent


@pytest.fixture
def node2(cluster):
    subprocess.run([HERE / "add-node", "node2"], check=True, timeout=600)
    yield "node2"
    subprocess.run([HERE / "lose-node", "node2"], check=True, timeout=300)
    cluster.kubectl("delete", "node", "node2")


def on(node: str, pod: dict) -> dict:
    """Returns the pod bound to a node, without the scheduler."""
    return {**pod, "spec": {**pod["spec"], "nodeName": node}}


def test_a_network_policy_applies_between_nodes(cluster: Cluster, node2: str):
    cluster.start(on("node0", web("shop")), on(node2, busybox("friend")), on(node2, busybox("neighbour")))
    pod = cluster.field("pod", "shop", ".status.podIP")
    assert reaches(cluster, "friend", pod)
    assert reaches(cluster, "neighbour", pod)
    assert cluster.sh("friend", "/busybox nslookup kubernetes.default.svc.cluster.local").returncode == 0
    admit = [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}]
    cluster.apply(policy("shop", {"podSelector": {"matchLabels": {"app": "shop"}}, "ingress": admit}))
    assert eventually(lambda: not reaches(cluster, "neighbour", pod))
    assert reaches(cluster, "friend", pod)


def test_a_lost_node_s_pods_start_on_the_other(cluster: Cluster, node2: str):
    preferred = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node2]}]}
    spec = busybox("worker")["spec"]
    spec["restartPolicy"] = "Always"
    spec["affinity"] = {
        "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": preferred}]}
    }
    labels = {"app": "worker"}
    template = {"metadata": {"labels": labels}, "spec": spec}
    deployment = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    cluster.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "worker"}, "spec": deployment})
    cluster.kubectl("rollout", "status", "deployment/worker", "--timeout=60s")

    def nodes() -> list[str]:
        where = ".items[?(@.status.phase=='Running')].spec.nodeName"
        return cluster.kubectl("get", "pods", "--output", f"jsonpath={{{where}}}").split()

    assert nodes() == [node2]
    subprocess.run([HERE / "lose-node", node2], check=True, timeout=300)
    assert eventually(lambda: set(nodes()) - {node2}, seconds=120)

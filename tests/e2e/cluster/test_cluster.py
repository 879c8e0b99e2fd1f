"""Checks the features of the cluster that the tests rely on, each with a case that a lenient cluster would get wrong."""

import json
import re
import subprocess

from tests.e2e.cluster.client import Cluster, busybox, eventually, fetch, policy, reaches, web


def test_nodes_are_ready_and_have_the_pinned_version(env):
    nodes = Cluster(env).kubectl("get", "nodes", "--no-headers").splitlines()
    assert nodes
    assert all(re.search(r" Ready .* v1\.34\.", node) for node in nodes)


def test_a_pod_runs_and_its_log_is_readable(cluster):
    cluster.start(busybox("hello", "echo hello from $(/busybox hostname); exec /busybox sleep 600"))
    assert cluster.kubectl("logs", "hello") == "hello from hello\n"


def test_a_command_runs_inside_a_pod(cluster):
    cluster.start(busybox("quiet"))
    assert cluster.sh("quiet", "echo $((6 * 7))").stdout == "42\n"


def test_names_resolve_and_services_answer(cluster):
    cluster.start(web("shop"), busybox("client"))
    cluster.kubectl("expose", "pod", "shop", "--port", "80", "--target-port", "8000")
    address = cluster.field("service", "shop", ".spec.clusterIP")
    full = f"shop.{cluster.namespace}.svc.cluster.local"
    assert eventually(lambda: cluster.sh("client", f"/busybox nslookup {full}", check=False).returncode == 0)
    assert address in cluster.sh("client", f"/busybox nslookup {full}").stdout
    ask = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | /busybox nc -w 5 {address} 80"
    assert cluster.sh("client", ask).stdout.endswith("\nshop\n")


def test_a_name_outside_is_refused_at_once(cluster):
    cluster.start(busybox("client"))
    answer = cluster.sh("client", "/busybox timeout 2 /busybox nslookup example.org.", check=False)
    assert answer.returncode != 0
    assert "NXDOMAIN" in answer.stdout


def test_the_machine_reaches_pods_services_and_forwarded_ports(cluster):
    cluster.start(web("shop"))
    cluster.kubectl("expose", "pod", "shop", "--port", "80", "--target-port", "8000")
    pod = cluster.field("pod", "shop", ".status.podIP")
    service = cluster.field("service", "shop", ".spec.clusterIP")
    assert fetch(f"http://{pod}:8000") == "shop\n"
    assert eventually(lambda: fetch(f"http://{service}") == "shop\n")
    command = ["kubectl", "--namespace", cluster.namespace, "port-forward", "service/shop", ":80"]
    with subprocess.Popen(command, env=cluster.env, stdout=subprocess.PIPE, text=True) as forward:
        port = re.search(r"127\.0\.0\.1:(\d+)", forward.stdout.readline()).group(1)
        assert fetch(f"http://127.0.0.1:{port}") == "shop\n"
        forward.terminate()


def test_a_network_policy_blocks_and_admits_pods(cluster):
    cluster.start(web("shop"), busybox("friend"), busybox("neighbour"))
    pod = cluster.field("pod", "shop", ".status.podIP")
    assert reaches(cluster, "friend", pod)
    assert reaches(cluster, "neighbour", pod)
    admit = [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}]
    cluster.apply(policy("shop", {"podSelector": {"matchLabels": {"app": "shop"}}, "ingress": admit}))
    assert eventually(lambda: not reaches(cluster, "neighbour", pod))
    assert reaches(cluster, "friend", pod)
    cluster.kubectl("delete", "networkpolicy", "shop")
    assert eventually(lambda: reaches(cluster, "neighbour", pod))


def test_an_ordinary_rule_allows_dns_through_a_default_deny(cluster):
    cluster.start(web("shop"), busybox("client"))
    shop = cluster.field("pod", "shop", ".status.podIP")
    api = "kubernetes.default.svc.cluster.local"

    def resolves() -> bool:
        return cluster.sh("client", f"/busybox timeout 3 /busybox nslookup {api}", check=False).returncode == 0

    cluster.apply(policy("deny", {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}))
    assert eventually(lambda: not resolves())
    server = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    }
    rule = {"to": [server], "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}
    cluster.apply(policy("dns", {"podSelector": {}, "policyTypes": ["Egress"], "egress": [rule]}))
    assert eventually(resolves)
    assert not reaches(cluster, "client", shop)


def test_an_ip_block_admits_the_api_server(cluster):
    cluster.start(busybox("client"))
    address = re.search(r"//(.*):6443", cluster.env["KOMMUNA_CLUSTER_API"]).group(1)

    def connects() -> bool:
        return reaches(cluster, "client", address, 6443)

    assert connects()
    cluster.apply(policy("deny", {"podSelector": {}, "policyTypes": ["Egress"]}))
    assert eventually(lambda: not connects())
    rule = {"to": [{"ipBlock": {"cidr": f"{address}/32"}}], "ports": [{"protocol": "TCP", "port": 6443}]}
    cluster.apply(policy("api", {"podSelector": {}, "policyTypes": ["Egress"], "egress": [rule]}))
    assert eventually(connects)


def test_a_restricted_namespace_refuses_a_privileged_pod(cluster):
    cluster.kubectl("label", "namespace", cluster.namespace, "pod-security.kubernetes.io/enforce=restricted")
    refused = cluster.apply(busybox("root", securityContext={"privileged": True}), check=False)
    assert "violates PodSecurity" in refused.stderr
    cluster.start(busybox("ordinary"))


def test_a_quota_refuses_the_second_pod(cluster):
    cluster.kubectl("create", "quota", "one", "--hard=pods=1")
    cluster.start(busybox("first"))
    assert "exceeded quota" in cluster.apply(busybox("second"), check=False).stderr


def test_a_limit_range_gives_a_pod_its_limits(cluster):
    limits = {"type": "Container", "default": {"memory": "64Mi"}, "defaultRequest": {"memory": "32Mi"}}
    cluster.apply(
        {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"}, "spec": {"limits": [limits]}}
    )
    cluster.start(busybox("modest"))
    assert cluster.field("pod", "modest", ".spec.containers[0].resources.limits.memory") == "64Mi"


def test_an_admission_policy_refuses_what_its_expression_forbids(cluster):
    name = f"no-latest-{cluster.namespace}"
    group = "admissionregistration.k8s.io/v1"
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": cluster.namespace}}}
    rule = {"expression": "!('forbidden' in object.metadata.labels)", "message": "the label is forbidden"}
    spec = {"matchConstraints": {"resourceRules": [pods]}, "validations": [rule]}
    binding = {"policyName": name, "validationActions": ["Deny"], "matchResources": here}
    made = [
        {"apiVersion": group, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": spec},
        {"apiVersion": group, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name}, "spec": binding},
    ]
    cluster.apply(*made)
    pod = busybox("labelled")
    pod["metadata"]["labels"]["forbidden"] = "yes"

    def refused() -> bool:
        return "the label is forbidden" in cluster.create(pod, "--dry-run=server").stderr

    try:
        assert eventually(refused)
        cluster.start(busybox("plain"))
    finally:
        cluster.kubectl("delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", name)


def test_a_service_account_may_only_do_what_its_role_allows(cluster):
    cluster.kubectl("create", "serviceaccount", "reader")
    cluster.kubectl("create", "role", "reader", "--verb=get", "--resource=pods")
    cluster.kubectl("create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={cluster.namespace}:reader")
    reader = f"--as=system:serviceaccount:{cluster.namespace}:reader"
    assert eventually(lambda: cluster.run("auth", "can-i", "get", "pods", reader, check=False).stdout == "yes\n")
    assert cluster.run("auth", "can-i", "get", "secrets", reader, check=False).stdout == "no\n"


def test_a_node_may_not_impersonate_another(env):
    other = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "other"}}
    refused = Cluster(env).create(other, "--as=system:node:node0", "--as-group=system:nodes", "--dry-run=server")
    assert "is not allowed to modify node" in refused.stderr


def test_a_pod_over_its_memory_limit_is_killed(cluster):
    greedy = "exec /busybox tail /dev/zero"
    cluster.apply(busybox("greedy", greedy, resources={"limits": {"memory": "24Mi"}}))
    state = ".status.containerStatuses[0].state.terminated.reason"
    assert eventually(lambda: cluster.field("pod", "greedy", state) == "OOMKilled")


def test_a_pod_is_evicted(cluster):
    cluster.start(busybox("guest"))
    guest = {"name": "guest", "namespace": cluster.namespace}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": guest}
    url = f"/api/v1/namespaces/{cluster.namespace}/pods/guest/eviction"
    assert cluster.create(eviction, "--raw", url).returncode == 0
    assert eventually(lambda: cluster.run("get", "pod", "guest", check=False).returncode != 0)


def test_s3_users_may_only_do_what_their_policy_allows(cluster):
    server = busybox("s3", image="localhost/minio:e2e", command=["/minio", "server", "/tmp/data"])
    server["spec"]["containers"][0]["env"] = [
        {"name": "MINIO_ROOT_USER", "value": "root"},
        {"name": "MINIO_ROOT_PASSWORD", "value": "root-password"},
    ]
    cluster.start(server)

    def mc(*arguments: str) -> subprocess.CompletedProcess[str]:
        return cluster.run("exec", "s3", "--", "/mc", "--config-dir", "/tmp/mc", *arguments, check=False)

    assert eventually(
        lambda: mc("alias", "set", "s3", "http://127.0.0.1:9000", "root", "root-password").returncode == 0
    )
    for bucket in ("mine", "theirs"):
        assert mc("mb", f"s3/{bucket}").returncode == 0
    rule = {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::mine", "arn:aws:s3:::mine/*"]}
    document = json.dumps({"Version": "2012-10-17", "Statement": [rule]})
    cluster.run(
        "exec", "-i", "s3", "--", "/mc", "--config-dir", "/tmp/mc", "pipe", "s3/theirs/policy.json", stdin=document
    )
    assert mc("cp", "s3/theirs/policy.json", "/tmp/policy.json").returncode == 0
    assert mc("admin", "user", "add", "s3", "team", "team-password").returncode == 0
    assert mc("admin", "policy", "create", "s3", "team", "/tmp/policy.json").returncode == 0
    assert mc("admin", "policy", "attach", "s3", "team", "--user", "team").returncode == 0
    assert mc("alias", "set", "team", "http://127.0.0.1:9000", "team", "team-password").returncode == 0
    assert mc("cp", "/tmp/policy.json", "team/mine/policy.json").returncode == 0
    assert "Insufficient permissions" in mc("cp", "/tmp/policy.json", "team/theirs/other.json").stderr


def test_kubeconform_knows_every_field_without_the_internet(env):
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "shop"},
        "spec": {"selector": {"app": "shop"}},
    }
    command = ["kubeconform", "-strict", "-schema-location", env["KOMMUNA_CLUSTER_SCHEMAS"]]

    def check(made: dict) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=env, input=json.dumps(made), capture_output=True, text=True)

    assert check(service).returncode == 0
    service["spec"]["selctor"] = service["spec"].pop("selector")
    assert "additional properties 'selctor' not allowed" in check(service).stdout

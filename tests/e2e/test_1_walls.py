"""What a team's pods contain and can reach. Every refusal has a counterpart from a place where it is allowed."""

from __future__ import annotations

import json

import pytest
from tests.e2e.installation import CONTROL, Airflow, Installation

pytestmark = pytest.mark.usefixtures("jobs")

CONNECT = """
import concurrent.futures, json, socket, time

def reach(place):
    name, host, port = place
    until = time.monotonic() + 8  # a new pod's doors open within seconds
    while True:
        try:
            socket.create_connection((host, port), timeout=4).close()
            return name, "open"
        except OSError as error:
            if time.monotonic() > until:
                return name, type(error).__name__
            time.sleep(0.5)

places = json.loads('''%s''')
print(json.dumps(dict(concurrent.futures.ThreadPoolExecutor(len(places)).map(reach, places))))
"""


def reached(
    installation: Installation, places: list[tuple[str, str, int]], namespace: str, labels: dict[str, str]
) -> dict[str, str]:
    """Returns the addresses that a pod with these labels can connect to, and the errors for the others."""
    found: dict[str, str] = json.loads(installation.python(CONNECT % json.dumps(places), namespace, labels))
    return found


def reached_from(installation: Installation, places: list[tuple[str, str, int]], deployment: str) -> dict[str, str]:
    """The same for a running pod of the control plane."""
    code = CONNECT % json.dumps(places)
    command = ["-n", CONTROL, "exec", f"deploy/kommuna-{deployment}", "--", "python", "-c", code]
    found: dict[str, str] = json.loads(installation.cluster.kubectl(*command))
    return found


@pytest.fixture(scope="module")
def places(installation: Installation) -> list[tuple[str, str, int]]:
    nodes = json.loads(installation.cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    addresses = [a["address"] for node in nodes for a in node["status"]["addresses"] if a["type"] == "InternalIP"]
    return [
        ("execution", f"kommuna-api-server.{CONTROL}.svc", 8080),
        ("mlflow", f"kommuna-mlflow.{CONTROL}.svc", 5000),
        ("store", "minio.fixtures.svc", 9000),
        ("git", "git.fixtures.svc", 9418),
        ("postgresql", f"kommuna-postgresql.{CONTROL}.svc", 5432),
        ("parser of another team", "parser.kommuna-fraud.svc", 8794),
        ("own parser", "parser.kommuna-support.svc", 8794),
        ("kubernetes", "kubernetes.default.svc", 443),
        *((f"kubelet of {address}", address, 10250) for address in addresses),
    ]


def test_a_worker_reaches_only_the_services_that_it_needs(
    installation: Installation, places: list[tuple[str, str, int]]
) -> None:
    found = reached(
        installation, places, "kommuna-support",
        {"app.kubernetes.io/component": "worker"},
    )  # fmt: skip
    assert {name for name, how in found.items() if how == "open"} == {"execution", "mlflow", "store"}, found


def test_the_dag_processor_reaches_its_database_and_its_parser(
    installation: Installation, places: list[tuple[str, str, int]]
) -> None:
    """The counterpart: the connections that are refused to a worker are open to those who need them."""
    found = reached(
        installation, places, CONTROL,
        {
            "app.kubernetes.io/instance": "kommuna", "app.kubernetes.io/component": "dag-processor",
            "kommuna/team": "fraud",
        },
    )  # fmt: skip
    assert found["postgresql"] == "open"
    assert found["parser of another team"] == "open"  # fraud's, whose processor this pod passes for
    assert found["own parser"] != "open"  # support's
    assert found["kubernetes"] == "open"


@pytest.mark.parametrize(
    ("deployment", "allowed"),
    [("api-server", {"postgresql", "store", "kubernetes"}), ("mlflow", {"postgresql", "store"})],
)
def test_a_server_that_answers_teams_connects_only_to_its_services(
    installation: Installation, places: list[tuple[str, str, int]], deployment: str, allowed: set[str]
) -> None:
    own = {"api-server": "execution", "mlflow": "mlflow"}[deployment]
    found = reached_from(installation, [place for place in places if place[0] != own], deployment)
    assert {name for name, how in found.items() if how == "open"} == allowed, found


def test_a_pod_in_a_namespace_without_policies_reaches_the_nodes_and_kubernetes(
    installation: Installation, places: list[tuple[str, str, int]]
) -> None:
    """The counterpart for addresses that no pod of the platform may reach; its own policies still apply."""
    found = reached(installation, places, "fixtures", {"app": "stranger"})
    assert {how for name, how in found.items() if name.startswith("kubelet")} == {"open"}, found
    assert found["kubernetes"] == found["store"] == found["git"] == "open", found
    assert "open" not in (found["postgresql"], found["own parser"], found["parser of another team"]), found


def test_a_pod_of_the_team_without_the_workers_label_reaches_nothing(
    installation: Installation, places: list[tuple[str, str, int]]
) -> None:
    numbers = [
        (name, installation.cluster.get("service", host.split(".")[0], host.split(".")[1])["spec"]["clusterIP"], port)
        for name, host, port in places
        if host.endswith(".svc")
    ]
    found = reached(installation, numbers, "kommuna-support", {"app": "stray"})
    assert "open" not in found.values(), found


def test_a_worker_holds_no_credential_of_the_control_plane(installation: Installation, airflow: Airflow) -> None:
    run = airflow.trigger("support__look")
    run.succeed()
    metrics = run.result("look")["metrics"]
    assert metrics["found"] == 0
    assert metrics["token"] == 0


def test_the_same_probe_finds_the_database_in_the_schedulers_pod(installation: Installation) -> None:
    """Shows that the test above can fail."""
    found = installation.cluster.kubectl("-n", CONTROL, "exec", "deploy/kommuna-scheduler", "--", "env")
    assert "SQL_ALCHEMY" in found
    assert "FERNET" in found


STORE = """
import s3fs, json
files = s3fs.S3FileSystem(endpoint_url="http://minio.fixtures.svc:9000")
found = {}
for name in ("support", "fraud"):
    try:
        found[name] = len(files.ls(f"kommuna/teams/{name}/inbox"))
    except Exception as error:
        found[name] = type(error).__name__
    try:
        files.pipe_file(f"kommuna/teams/{name}/inbox/written.txt", b"x")
        found[name + " written"] = "yes"
    except Exception as error:
        found[name + " written"] = type(error).__name__
print(json.dumps(found))
"""


def test_a_workers_store_credentials_only_open_its_own_prefix(installation: Installation) -> None:
    labels = {"app.kubernetes.io/component": "worker"}
    found = json.loads(installation.python(STORE, "kommuna-support", labels, env_from="worker").splitlines()[-1])
    assert found["support"] > 0
    assert found["support written"] == "yes"
    assert found["fraud"] == "PermissionError"
    assert found["fraud written"] == "PermissionError"


def test_a_pod_that_wants_to_be_root_is_refused_in_a_teams_namespace(installation: Installation) -> None:
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root", "namespace": "kommuna-support"},
        "spec": {"containers": [{"name": "x", "image": "x", "securityContext": {"privileged": True}}]},
    }  # fmt: skip
    with pytest.raises(AssertionError, match="PodSecurity"):
        installation.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(pod))


def test_the_scheduler_may_only_launch_pods_in_teams_namespaces(installation: Installation) -> None:
    def may(verb: str, what: str, namespace: str, *options: str) -> bool:
        account = f"system:serviceaccount:{CONTROL}:kommuna-scheduler"
        question = ["auth", "can-i", verb, what, "-n", namespace, "--as", account, *options]
        return installation.cluster.kubectl(*question, check=False).strip() == "yes"

    assert may("create", "pods", "kommuna-support")
    assert may("delete", "pods", "kommuna-fraud")
    assert not may("get", "secrets", "kommuna-support")
    assert may("get", "pods", "kommuna-support", "--subresource", "log")
    assert not may("create", "pods", "kommuna-support", "--subresource", "exec")
    assert not may("create", "pods", CONTROL)
    assert not may("create", "pods", "kube-system")

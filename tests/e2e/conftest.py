"""Starts the platform once for all end-to-end tests: cluster, images, fixtures, chart.

`KUBECONFIG` names another cluster to use, and `IMAGE_REGISTRY` where it pulls from.
`KOMMUNA_E2E_KEEP=1` leaves all of it for the next run, which then takes a minute instead of five.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.e2e.installation import (
    BUILD,
    CONTROL,
    HERE,
    ROOT,
    Airflow,
    Cluster,
    Installation,
    Repository,
    Run,
    collect,
    run,
    wait_until,
)

from kommuna.cluster.certificates import Pair, new_authority, new_certificate

MESSAGES = 2000
IMAGES = ("airflow", "steps", "postgresql")
JOBS = {"support": "support__topics", "fraud": "fraud__cards"}
PASSWORD = "rootsecret-of-the-tests"
LLM_KEY = "sk-of-the-tests-5f3a"
LOGIN = "registry-login"  # the tests' registry asks for none, and takes any
USERS = {
    "support": ["teams/support"],
    "fraud": ["teams/fraud"],
    "bench": ["teams/bench"],
    "mlflow": ["mlflow"],
    "reader": [],
}
INBOXES = {
    "support": ("messages.csv", "dev.csv", "gold.csv", "new_messages.csv"),
    "fraud": ("transactions.csv", "tx_dev.csv", "tx_gold.csv", "new_transactions.csv", "events.csv"),
}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: takes minutes; `make attacks` runs it, `make e2e` does not")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "e2e" in str(item.path):
            item.add_marker(pytest.mark.timeout(2400))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    cluster = item.funcargs.get("cluster") if hasattr(item, "funcargs") else None
    if report.failed and cluster is not None:
        collect(cluster)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    if os.environ.get("KUBECONFIG"):
        yield Cluster(dict(os.environ))
        return
    if os.geteuid() != 0:
        pytest.skip("the test cluster needs root; or name another by KUBECONFIG and IMAGE_REGISTRY")
    subprocess.run([HERE / "cluster" / "up"], check=True)
    state = Path(os.environ.get("KOMMUNA_CLUSTER_STATE", "/run/kommuna-e2e"))
    text = run("bash", "-c", f"set -a; . {state}/env; env -0")
    yield Cluster(dict(line.split("=", 1) for line in text.split("\0") if "=" in line))
    if not os.environ.get("KOMMUNA_E2E_KEEP"):
        subprocess.run([HERE / "cluster" / "down"], check=True)


@pytest.fixture(scope="session")
def images(cluster: Cluster) -> dict[str, str]:
    """The images by name, built and pushed to the registry that nodes pull from."""
    built = run(HERE / "images" / "build.sh", "e2e", *IMAGES, env=cluster.env).split()
    return dict(zip(IMAGES, run(HERE / "images" / "push.sh", *built, env=cluster.env).split(), strict=True))


@pytest.fixture(scope="session")
def llm_authority() -> Pair:
    """The private authority of the LLM's server."""
    return new_authority("bank")


@pytest.fixture(scope="session")
def fixtures(cluster: Cluster, images: dict[str, str], llm_authority: Pair) -> None:
    """The object store with its users, the Git server, and the LLM's server."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "models"}}
    code = {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "llm-code", "namespace": "models"},
        "data": {
            file.name: file.read_text()
            for file in (HERE / "fixtures" / "llm.py", ROOT / "tests" / "rigs" / "llm_server.py")
        },
    }  # fmt: skip
    own = new_certificate("llm.models.svc", llm_authority)
    tls = {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "llm-tls", "namespace": "models"},
        "stringData": {"server.pem": (own.certificate + own.key).decode()},
    }  # fmt: skip
    for made in (namespace, code, tls):
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps(made))
    minio = cluster.env.get("KOMMUNA_IMAGE_MINIO", "minio/minio")
    for name in ("minio", "git", "llm"):
        text = (HERE / "fixtures" / f"{name}.yaml").read_text()
        words = {
            "minio": minio, "password": PASSWORD, "key": LLM_KEY, "code": hashlib.sha256(f"{code}{tls}".encode()).hexdigest(),
            "airflow": images["airflow"], "steps": images["steps"],
        }  # fmt: skip
        for word, value in words.items():
            text = text.replace("{" + word + "}", value)
        cluster.kubectl("apply", "-f", "-", stdin=text)
    cluster.kubectl("-n", "fixtures", "rollout", "status", "deploy/minio", "deploy/git", "--timeout", "180s")
    cluster.kubectl("-n", "models", "rollout", "status", "deploy/llm", "deploy/proxy", "--timeout", "180s")

    def mc(*arguments: str, stdin: str | None = None) -> None:
        cluster.kubectl("-n", "fixtures", "exec", "-i", "deploy/minio", "--", "mc", *arguments, stdin=stdin)

    mc("alias", "set", "here", "http://127.0.0.1:9000", "root", PASSWORD)
    mc("mb", "--ignore-existing", "here/kommuna")
    for user, prefixes in USERS.items():
        mc("admin", "user", "add", "here", user, f"{user}-secret")
        mc("admin", "policy", "create", "here", user, "/dev/stdin", stdin=json.dumps(policy(prefixes)))
        attached = ["admin", "policy", "attach", "here", user, "--user", user]
        cluster.kubectl("-n", "fixtures", "exec", "deploy/minio", "--", "mc", *attached, check=False)


def policy(prefixes: list[str]) -> dict[str, Any]:
    """Returns an S3 policy: read and write access below some prefixes; read access to all teams' without any."""
    bucket = "arn:aws:s3:::kommuna"
    if not prefixes:
        allowed = [
            {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": [f"{bucket}/teams/*"]},
            {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": [bucket]},
        ]
        return {"Version": "2012-10-17", "Statement": allowed}
    objects = ["GetObject", "PutObject", "DeleteObject", "AbortMultipartUpload", "ListMultipartUploadParts"]
    below = [pattern for prefix in prefixes for pattern in (prefix, f"{prefix}/*")]
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": [f"s3:{name}" for name in objects],
                "Resource": [f"{bucket}/{prefix}/*" for prefix in prefixes],
            },
            {
                "Effect": "Allow",
                "Action": ["s3:ListBucket"],
                "Resource": [bucket],
                "Condition": {"StringLike": {"s3:prefix": below}},
            },
        ],
    }


@pytest.fixture(scope="session")
def repository(
    cluster: Cluster, fixtures: None, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Repository:
    """The repository with the teams' DAGs of this tree and those of the tests, pushed."""
    made = Repository(
        tmp_path_factory.mktemp("repository"), f"git://{cluster.address('git', 'fixtures', 9418)}/platform.git"
    )
    for folder in (ROOT / "dags", HERE / "dags"):
        shutil.copytree(folder, made.folder / "dags", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (made.folder / "dags" / "bench").glob("*.py"):
        file.write_text(file.read_text().replace("@STEPS@", images["steps"]))
    made.push("the teams' DAGs")
    return made


@pytest.fixture(scope="session")
def values(images: dict[str, str], llm_authority: Pair) -> dict[str, Any]:
    given = yaml.safe_load((HERE / "fixtures" / "values.yaml").read_text())
    given["llm"]["heavy"]["ca"] = llm_authority.certificate.decode()
    return given | {"images": {**images, "pull_secrets": [LOGIN]}}


@pytest.fixture(scope="session")
def installation(
    cluster: Cluster, images: dict[str, str], values: dict[str, Any], repository: Repository, tmp_path_factory: Any
) -> Installation:
    """The installed chart when everything is ready, with the demo's data in the teams' inboxes."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": CONTROL}}
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(namespace))
    secrets = {
        f"store-{user}": {"AWS_ACCESS_KEY_ID": user, "AWS_SECRET_ACCESS_KEY": f"{user}-secret"} for user in USERS
    } | {
        "git-fraud": {"connection": json.dumps({"conn_type": "git", "login": "fraud", "password": PASSWORD})},
        "models": {"token": LLM_KEY},
        LOGIN: {".dockerconfigjson": json.dumps({"auths": {"registry.example": {"auth": "dTpw"}}})},
    }
    for name, entries in secrets.items():
        secret = {
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": CONTROL},
            "stringData": entries,
        }  # fmt: skip
        if name == LOGIN:
            secret["type"] = "kubernetes.io/dockerconfigjson"
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps(secret))
    found = Installation(cluster, images, values)
    done = found.upgrade(values)
    if done.returncode:
        collect(cluster)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}; see {BUILD}"
    if "KOMMUNA_CLUSTER_STATE" in cluster.env:  # a node for steps alone: it pulls no image but theirs
        subprocess.run([HERE / "cluster" / "add-node", "node1"], check=True)
    fill_inboxes(found, tmp_path_factory.mktemp("data"))
    ready(found)
    return found


def ready(installation: Installation) -> None:
    """Waits until every Deployment is ready and every DAG of the repository is known."""
    for namespace in (CONTROL, *(installation.namespace(team) for team in installation.values["teams"])):
        for name in installation.cluster.kubectl("-n", namespace, "get", "deploy", "-o", "name").split():
            installation.cluster.kubectl("-n", namespace, "rollout", "status", name, "--timeout", "600s")
    airflow = installation.airflow()
    wanted = {"support__topics", "fraud__cards", "bench__in_worker", "support__waits", "fraud__platform_check"}
    wait_until(f"{wanted} are known", lambda: wanted <= set(airflow.dags()), seconds=300)


def fill_inboxes(installation: Installation, folder: Path) -> None:
    from kommuna.demo.write import write_demo_data
    from kommuna.spec.step import StoreAddress
    from kommuna.store import Store

    write_demo_data(folder, messages=MESSAGES)
    for team, files in INBOXES.items():
        options = {"endpoint_url": installation.store_url, "key": team, "secret": f"{team}-secret"}
        store = Store(StoreAddress(url="s3://kommuna/teams", options=options), team)
        for file in files:
            store.put_inbox(folder / file, f"inbox/{file}")


@pytest.fixture(scope="session")
def airflow(installation: Installation) -> Airflow:
    return installation.airflow()


@pytest.fixture(scope="session")
def jobs(airflow: Airflow) -> dict[str, Run]:
    """The started main job of both example teams, which continues while the first tests run."""
    return {team: airflow.trigger(dag) for team, dag in JOBS.items()}

"""The ledger of the attacks, printed and written when the session ends; and the hostile teams' files, pushed once."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from tests.e2e.attacks import dag_files, people
from tests.e2e.attacks.ledger import Ledger
from tests.e2e.installation import CONTROL, Airflow, Installation, Repository, run, wait_until
from tests.e2e.installation import HERE as E2E
from tests.e2e.test_1_walls import reached
from tests.rigs import task_attacks

HERE = Path(__file__).parent
MODEL = "attacked"  # of fraud, in the registry
Registry = Callable[[str, Mapping[str, Any]], requests.Response]
_LEDGER = pytest.StashKey[Ledger]()


@pytest.fixture(scope="session")
def ledger(pytestconfig: pytest.Config) -> Iterator[Ledger]:
    made = pytestconfig.stash[_LEDGER] = Ledger()
    yield made
    made.write()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    made = config.stash.get(_LEDGER, None)
    if made is not None:
        terminalreporter.write_sep("=", "attacks by layer")
        terminalreporter.write_line(made.table())


@dataclass
class Hostile:
    """The hostile teams' files in the teams' repository.

    Attributes:
        repository: the teams' repository.
        pushed: when the files were pushed, in seconds of the monotonic clock.
        written: what was added to the repository.
        logged: a logged model of the attacked team.
    """

    repository: Repository
    pushed: float = 0.0
    written: list[Path] = field(default_factory=list)
    logged: str = ""

    def write(self, team: str, name: str, text: str) -> None:
        """Puts a file into a team's bundle."""
        path = self.repository.folder / "dags" / team / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self.written.append(path)

    def link(self, team: str, name: str, target: str) -> None:
        """Puts a link into a team's bundle."""
        path = self.repository.folder / "dags" / team / name
        path.symlink_to(target)
        self.written.append(path)

    def push(self) -> None:
        """Pushes the files."""
        self.repository.push("attacks")
        self.pushed = time.monotonic()

    @contextmanager
    def files(self, team: str, texts: Mapping[str, str]) -> Iterator[None]:
        """Pushes further files of a team for a while: broken ones leave import errors, and hostile ones take time."""
        folder = self.repository.folder / "dags" / team
        for name, text in texts.items():
            (folder / name).write_text(text)
        self.push()
        try:
            yield
        finally:
            for name in texts:
                (folder / name).unlink()
            self.push()

    def remove(self) -> None:
        """Takes the files out again, and pushes."""
        for path in self.written:
            path.unlink(missing_ok=True)
        self.repository.push("no attacks")


@pytest.fixture(scope="package")
def hostile(installation: Installation, airflow: Airflow, repository: Repository) -> Iterator[Hostile]:
    """Everything that hostile teams have in Git, pushed in one commit, and the rows of the team that they attack."""
    made = Hostile(repository)
    for name, text in dag_files.SHADOWS.items():
        made.write("bench", name, text)
    for name, target in dag_files.LINKS.items():
        made.link("bench", name, target)
    made.write("bench", "marks.py", dag_files.MARKS)
    made.write("bench", "reads_secrets.py", dag_files.reader(secrets(installation)))
    made.write("bench", "pods_of_bench.py", (HERE / "bundle" / "pods_of_bench.py").read_text())
    for name in ("attacks.py", "wastes.py"):
        made.write("support", name, (HERE / "bundle" / name).read_text())
    made.write("support", "task_attacks.py", Path(task_attacks.__file__).read_text())
    made.write("fraud", "victim.py", task_attacks.VICTIM)
    made.write("fraud", "walked.py", people.VICTIM)
    made.push()
    made.logged = register(installation)
    for path, body in (
        ("/variables", {"key": "fraud__guard_secret", "value": "secret"}),
        ("/variables", {"key": "support__own", "value": "1"}),
        ("/connections", {"connection_id": "fraud__guard_bank", "conn_type": "http"}),
    ):
        assert airflow.call("POST", path, json=body).status_code in (201, 409)
    dags = {"support__asks", "support__reports", "support__looks", "support__wastes", "fraud__victim", "fraud__walked"}
    wait_until("the hostile DAGs of support are known", lambda: dags <= set(airflow.dags()), seconds=180)
    yield made
    made.remove()
    wait_until("the hostile files are gone", lambda: not airflow.import_errors(), seconds=180)


def registry(installation: Installation, team: str) -> Registry:
    """Returns the registry as a team's tasks see it."""
    url = f"http://{installation.cluster.forwarded('kommuna-mlflow', CONTROL, 5000)}/api/2.0/mlflow"
    password = installation.cluster.secret("worker", "MLFLOW_TRACKING_PASSWORD", installation.namespace(team))
    options: Any = {"auth": (team, password), "headers": {"X-MLFLOW-WORKSPACE": team}, "timeout": 60}
    return lambda path, body: requests.post(f"{url}/{path}", json=body, **options)


def register(installation: Installation) -> str:
    """Gives the team that is attacked an experiment, a registered model and a logged model; returns the last one's id."""
    call = registry(installation, "fraud")
    answer = call("registered-models/create", {"name": MODEL})
    assert answer.ok or "ALREADY_EXISTS" in answer.text, answer.text
    experiment = call("experiments/create", {"name": f"attacked {time.time()}"}).json()["experiment_id"]
    logged = call("logged-models", {"experiment_id": experiment, "name": MODEL})
    return str(logged.json()["model"]["info"]["model_id"])


LISTEN = """
import socket, sys
kept = [socket.create_server(place) for place in {places}]
print("ready", flush=True)
sys.stdin.read()
"""
OUTSIDE = [("the metadata service", "169.254.169.254", 80), ("the internet", "192.0.2.1", 443)]


@pytest.fixture(scope="package")
def outside(installation: Installation) -> Iterator[list[tuple[str, str, int]]]:
    """Addresses outside the cluster, which answer: the test cluster's nodes have them for a while.

    On another cluster nobody knows what answers there.
    """
    if not installation.cluster.is_ours:
        yield []
        return
    nodes = installation.cluster.kubectl("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}").split()
    code = LISTEN.format(places=[place[1:] for place in OUTSIDE])
    enter = E2E / "cluster" / "enter"
    addresses = [f"{address}/32" for _, address, _ in OUTSIDE]
    listening = []
    try:
        for node in nodes:
            for address in addresses:
                run(enter, node, "ip", "address", "replace", address, "dev", "lo")
            command = [enter, node, sys.executable, "-c", code]
            listening.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        for one in listening:
            assert one.stdout is not None
            assert one.stdout.readline() == "ready\n"
        assert set(reached(installation, OUTSIDE, "fixtures", {"app": "stranger"}).values()) == {"open"}
        yield OUTSIDE
    finally:
        for one in listening:
            one.communicate()  # closes its input, by which it ends
        for node in nodes:
            for address in addresses:
                run(enter, node, "ip", "address", "delete", address, "dev", "lo", check=False)


def pods_by_address(installation: Installation) -> list[tuple[str, str, int]]:
    """Returns addresses of running pods: of the control plane and of another team."""
    ports = {"scheduler": 8974, "triggerer": 8794, "postgresql": 5432, "parser": 8794}
    found = []
    for namespace in (CONTROL, "kommuna-fraud"):
        for pod in installation.cluster.items("pods", namespace, "--field-selector", "status.phase=Running"):
            labels = pod["metadata"]["labels"]
            part, team = labels.get("app.kubernetes.io/component", ""), labels.get("kommuna/team", "the platform")
            if part in ports:
                found.append((f"the {part} of {team} by address", pod["status"]["podIP"], ports[part]))
    return found


def admin(airflow: Airflow) -> people.Ask:
    """Returns a function that sends a request as the admin."""

    def ask(method: str, path: str, body: object = None) -> object:
        return airflow.call(method, path.removeprefix("/api/v2"), **({} if body is None else {"json": body}))

    return ask  # type: ignore[return-value]


def show(value: object) -> str:
    """Returns the end of a value as JSON, for evidence."""
    return json.dumps(value)[-300:]


def secrets(installation: Installation) -> list[str]:
    """Returns what only others than bench may know: keys, the addresses of databases, the parser's token."""
    names = ("keys", "database", "parser-bench")
    found = [installation.cluster.get("secret", f"{CONTROL}-{name}", CONTROL)["data"] for name in names]
    values = {name: value for data in found for name, value in data.items() if name != "mlflow-bench"}
    return [base64.b64decode(value).decode() for value in values.values()]

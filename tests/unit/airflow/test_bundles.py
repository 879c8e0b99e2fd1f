"""A run's code comes from a Git server that may be unreachable: real git, against a server of the test."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kommuna.errors import Outage
from kommuna.outages import RetryPolicy

Bundle = Callable[..., Any]


class Server(ThreadingHTTPServer):
    """A folder with repositories; the first requests are answered with a status of the test."""

    def __init__(self, folder: Path) -> None:
        self.refusals: list[int] = []
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))


class Handler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        if self.server.refusals:
            self.send_error(self.server.refusals.pop(0))
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def repository(tmp_path: Path) -> tuple[Path, str]:
    """A folder that a server can show, with `dags.git` in it, and the commit."""
    work = tmp_path / "work"
    git = ["git", "-C", str(work), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    (work / "dags").mkdir(parents=True)
    (work / "dags/one.py").write_text("ONE = 1\n")
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True)
    served = tmp_path / "served"
    subprocess.run(["git", "clone", "-q", "--bare", str(work), str(served / "dags.git")], check=True)
    subprocess.run(["git", "-C", str(served / "dags.git"), "update-server-info"], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    return served, commit


@pytest.fixture
def server(repository: tuple[Path, str]) -> Iterator[Server]:
    with Server(repository[0]) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def bundle(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "bundles"))
    from kommuna.airflow import bundles

    monkeypatch.setattr(
        bundles, "wait_out", partial(bundles.wait_out, policy=RetryPolicy(first=0.01, longest=0.01, total=0.2))
    )

    def bundle(version: str | None, *, repository: str = "dags.git") -> Any:
        return bundles.TeamGitBundle(
            name="support", tracking_ref="main", subdir="dags", version=version,
            repo_url=f"http://127.0.0.1:{server.server_port}/{repository}",
        )  # fmt: skip

    return bundle


def test_a_failing_server_is_waited_for(bundle: Bundle, server: Server, repository: tuple[Path, str]) -> None:
    server.refusals = [503] * 9  # more than the clone's own two tries
    made = bundle(repository[1])
    made.initialize()
    assert (made.path / "one.py").read_text() == "ONE = 1\n"
    assert server.refusals == []


def test_a_server_that_stays_away_raises_an_outage(
    bundle: Bundle, server: Server, repository: tuple[Path, str]
) -> None:
    made = bundle(repository[1])
    server.shutdown()
    server.server_close()
    with pytest.raises(Outage, match=r"Git server of bundle 'support' does not answer: fatal: .*onnect"):
        made.initialize()


def test_a_missing_commit_is_not_waited_for(bundle: Bundle, server: Server, repository: tuple[Path, str]) -> None:
    with pytest.raises(RuntimeError, match="Error cloning repository"):
        bundle(repository[1], repository="other.git").initialize()
    with pytest.raises(Exception, match=f"Version {'12' * 20} not found"):
        bundle("12" * 20).initialize()


def test_the_dag_processor_does_not_wait(bundle: Bundle, server: Server) -> None:
    server.refusals = [503] * 9
    with pytest.raises(RuntimeError, match="Error cloning repository"):
        bundle(None).initialize()
    assert server.refusals

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

from kommuna.errors import DataError, Outage, StoreError
from kommuna.outages import RetryPolicy
from kommuna.spec.step import StoreAddress
from kommuna.store.files import TeamFiles

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

    store = StoreAddress(url=f"file://{tmp_path}/store")
    monkeypatch.setattr(bundles, "_files", lambda team: TeamFiles(store, team))
    monkeypatch.setattr(bundles, "_versions_of_runs", lambda name: set())

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


def published(version: str | None, *, subdir: str = "dags") -> Any:
    from kommuna.airflow.bundles import PublishedBundle

    return PublishedBundle(name="support", subdir=subdir, version=version)


def test_workers_get_what_the_dag_processor_has_published(
    bundle: Bundle, server: Server, repository: tuple[Path, str]
) -> None:
    folder, first = repository
    processor = bundle(None)
    processor.initialize()
    work = folder.parent / "work"
    (work / "dags/one.py").write_text("ONE = 2\n")
    git = ["git", "-C", str(work), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "commit", "-qam", "second"], check=True)
    subprocess.run([*git, "push", "-q", str(folder / "dags.git"), "main"], check=True)
    subprocess.run(["git", "-C", str(folder / "dags.git"), "update-server-info"], check=True)
    processor.refresh()
    second = processor.get_current_version().version
    assert second != first
    server.shutdown()
    server.server_close()  # a worker asks no Git server
    for commit, text in ((first, "ONE = 1\n"), (second, "ONE = 2\n")):
        worker = published(commit)
        worker.initialize()
        assert (worker.path / "one.py").read_text() == text
        assert worker.get_current_version().version == commit
    with pytest.raises(Outage, match="is not in the store yet"):
        published("1" * 40).initialize()
    with pytest.raises(DataError, match="has no version"):
        published(None).initialize()


def test_versions_of_earlier_runs_are_published_once_and_a_lost_one_is_skipped(
    bundle: Bundle, repository: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from kommuna.airflow import bundles

    folder, first = repository
    work = folder.parent / "work"
    git = ["git", "-C", str(work), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "second"], check=True)
    subprocess.run([*git, "push", "-q", str(folder / "dags.git"), "main"], check=True)
    subprocess.run(["git", "-C", str(folder / "dags.git"), "update-server-info"], check=True)
    monkeypatch.setattr(bundles, "_versions_of_runs", lambda name: {first, "2" * 40})
    bundle(None).initialize()
    published(first).initialize()


def test_a_version_that_cannot_be_published_is_not_taken(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    from kommuna.airflow import bundles

    def down(*_: object, **__: object) -> None:
        raise StoreError("the artifact store does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(bundles.code_store, "publish", down)
        made = bundle(None)
        with pytest.raises(StoreError):
            made.initialize()
        assert not made.is_initialized
    made.initialize()
    published(made.get_current_version().version).initialize()

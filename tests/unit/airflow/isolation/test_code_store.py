"""A worker gets the folder of its run's commit from the store, whoever wrote there: real git, a store in a folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kommuna.airflow.isolation import code_store
from kommuna.airflow.isolation.code_store import fetch, publish, published
from kommuna.errors import DataError, IntegrityError, Outage
from kommuna.spec.step import StoreAddress
from kommuna.store.files import TeamFiles

BELOW = "dags/support"


class Repository:
    """A repository with the folders of two teams."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "dags/fraud").mkdir(parents=True)
        (folder / "dags/support/sub").mkdir(parents=True)
        (folder / "dags/fraud/secret.py").write_text("THEIRS = 1\n")
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.folder), "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, text: str) -> str:
        (self.folder / "dags/support/sub/dag.py").write_text(text)
        self.git("add", ".")
        self.git("commit", "-qm", text)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


@pytest.fixture
def files(tmp_path: Path) -> TeamFiles:
    return TeamFiles(StoreAddress(url=f"file://{tmp_path}/store"), "support")


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def stored(files: TeamFiles) -> Path:
    (pack,) = Path(files.root).rglob("*.pack")
    return pack


def test_each_run_gets_the_folder_of_its_own_commit(repository: Repository, files: TeamFiles, tmp_path: Path) -> None:
    first, second = repository.commit("ONE = 1\n"), repository.commit("TWO = 2\n")
    for commit in (first, second):
        publish(files, repository.folder, commit, below=BELOW)
    assert published(files, BELOW) == {first, second}
    assert published(files, "dags") == set()
    for commit, text in ((second, "TWO = 2\n"), (first, "ONE = 1\n")):
        assert content(fetch(files, commit, tmp_path / "versions", below=BELOW)) == {"sub/dag.py": text}


def test_nothing_else_of_the_repository_is_in_the_store(
    repository: Repository, files: TeamFiles, tmp_path: Path
) -> None:
    repository.commit("OLD = 1\n")
    commit = repository.commit("NEW = 1\n")
    publish(files, repository.folder, commit, below=BELOW)
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "out")], check=True)
    git = ["git", "-C", str(tmp_path / "out")]
    subprocess.run([*git, "index-pack", "--stdin"], input=stored(files).read_bytes(), check=True, capture_output=True)
    listing = [*git, "cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectname)"]
    kinds = subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split()[::2]
    assert sorted(kinds) == ["blob", "commit", "tree", "tree", "tree", "tree"]


def test_code_of_another_commit_under_the_runs_name_is_refused(
    repository: Repository, files: TeamFiles, tmp_path: Path
) -> None:
    """A team's own keys may write to its prefix: what its runs execute stays what was committed."""
    reviewed = repository.commit("REVIEWED = 1\n")
    evil = repository.commit("import os\n")
    publish(files, repository.folder, evil, below=BELOW)
    pack = stored(files)
    place = Path(files.root, "code", reviewed, BELOW, pack.name)
    place.parent.mkdir(parents=True)
    pack.rename(place)
    with pytest.raises(IntegrityError, match="the stored code is not that of commit"):
        fetch(files, reviewed, tmp_path / "versions", below=BELOW)
    place.write_bytes(b"PACK" + b"\0" * 100)
    with pytest.raises(IntegrityError):
        fetch(files, reviewed, tmp_path / "versions", below=BELOW)
    assert not (tmp_path / "versions" / reviewed).exists()
    publish(files, repository.folder, reviewed, below=BELOW)
    assert content(fetch(files, reviewed, tmp_path / "versions", below=BELOW)) == {"sub/dag.py": "REVIEWED = 1\n"}


def test_links_out_of_the_folder_are_left_out(repository: Repository, files: TeamFiles, tmp_path: Path) -> None:
    (repository.folder / "dags/support/leak").symlink_to("/etc/passwd")
    (repository.folder / "dags/support/up").symlink_to("../fraud/secret.py")
    commit = repository.commit("A = 1\n")
    publish(files, repository.folder, commit, below=BELOW)
    folder = fetch(files, commit, tmp_path / "versions", below=BELOW)
    assert sorted(path.name for path in folder.iterdir()) == ["sub"]


def test_a_commit_that_is_not_published_yet_is_waited_for(
    repository: Repository, files: TeamFiles, tmp_path: Path
) -> None:
    with pytest.raises(Outage, match="not in the store yet"):
        fetch(files, repository.commit("A = 1\n"), tmp_path / "versions", below=BELOW)


@pytest.mark.parametrize("name", ["HEAD", "main", "../" * 14, "A" * 40, ""])
def test_only_a_commit_can_be_asked_for(files: TeamFiles, tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="is not a commit"):
        fetch(files, name, tmp_path / "versions", below=BELOW)


def test_a_folder_that_is_too_large_is_not_published(
    repository: Repository, files: TeamFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_store, "MAX_BUNDLE", 100)
    with pytest.raises(DataError, match="the bundle has more than"):
        publish(files, repository.folder, repository.commit("A = 1\n"), below=BELOW)
    assert published(files, BELOW) == set()


def test_the_whole_repository_may_be_the_folder(repository: Repository, files: TeamFiles, tmp_path: Path) -> None:
    commit = repository.commit("A = 1\n")
    publish(files, repository.folder, commit)
    assert set(content(fetch(files, commit, tmp_path / "versions"))) == {
        "dags/fraud/secret.py",
        "dags/support/sub/dag.py",
    }

"""A commit's folder in the team's part of the store: the processor publishes it, a worker fetches it.

What is stored is a pack of Git objects: the commit, and the folder's files and trees. Git names an object by the digest
of its content, so a worker that asks for the commit of its run gets that commit's files or an error, whoever wrote to
the store in between.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

from kommuna.airflow.isolation.shipping import pack_commit, unpack
from kommuna.airflow.isolation.wire import MAX_BUNDLE, MIB
from kommuna.errors import DataError, IntegrityError, Outage
from kommuna.store.files import TeamFiles

FOLDER = "code"
GIT_SECONDS = 60
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def published(files: TeamFiles, below: str) -> set[str]:
    """Returns the commits whose folder is in the store.

    Args:
        files: the team's folder in the store.
        below: the bundle's folder in its repository; empty for the whole repository.
    """
    files.fs.invalidate_cache()
    start, end = f"{files.root}/{FOLDER}/", f"/{_path_in_commit(below)}"
    found = (path.removeprefix(start) for path in files.find(FOLDER))
    return {path.removesuffix(end) for path in found if path.endswith(end)}


def publish(files: TeamFiles, repository: Path, commit: str, *, below: str = "") -> None:
    """Writes the pack of a commit's folder to the store.

    Args:
        files: the team's part of the store.
        repository: a repository that has the commit.
        commit: the commit.
        below: the folder in the repository; empty for all of it.

    Raises:
        DataError: the repository does not have it, or it is larger than a bundle may be.
        StoreError: the store is unreachable or refuses.
    """
    parts = [part for part in below.split("/") if part]
    trees = [f"{commit}:{'/'.join(parts[:depth])}" for depth in range(len(parts) + 1)]
    listing = _git(repository, "ls-tree", "-r", "-t", "--format=%(objecttype) %(objectname)", trees[-1]).decode()
    inner = [line.split()[1] for line in listing.splitlines() if line.split()[0] in ("blob", "tree")]
    outer = _git(repository, "rev-parse", *trees).decode().split()
    names = "\n".join(dict.fromkeys([commit, *outer, *inner])) + "\n"
    pack = _git(repository, "pack-objects", "-q", "--stdout", given=names.encode())
    if len(pack) > MAX_BUNDLE:
        raise DataError(
            f"the bundle has more than {MAX_BUNDLE // MIB} MiB",
            where=commit,
            fix="keep data out of it: tables and models belong in the store",
        )
    files.write(f"{files.root}/{FOLDER}/{commit}/{_path_in_commit(below)}", pack)


def fetch(files: TeamFiles, commit: str, versions: Path, *, below: str = "") -> Path:
    """Fetches a commit's folder, and returns it. A folder that was fetched before is not fetched again.

    Args:
        files: the team's part of the store.
        commit: the commit of the run.
        versions: the parent folder of all versions.
        below: the folder in the repository.

    Raises:
        Outage: the store does not answer, or does not have the commit yet.
        IntegrityError: what the store has is not the commit's folder.
        DataError: the commit's name is not one, or the folder is larger than a bundle may be.
    """
    if not _COMMIT.fullmatch(commit):
        raise DataError(f"'{commit[:100]}' is not a commit")
    if (versions / commit).is_dir():
        return versions / commit
    path = f"{files.root}/{FOLDER}/{commit}/{_path_in_commit(below)}"
    with files.faults():
        try:
            pack = files.fs.cat_file(path, end=MAX_BUNDLE)
        except FileNotFoundError:
            raise Outage(
                f"commit {commit[:12]} is not in the store yet", where=files.fs.unstrip_protocol(path)
            ) from None
    with tempfile.TemporaryDirectory(prefix="kommuna-code-") as scratch:
        repository = Path(scratch)
        try:
            kind = "sha1" if len(commit) == 40 else "sha256"
            _git(repository, "init", "-q", "--bare", f"--object-format={kind}")
            _git(repository, "index-pack", "--stdin", given=pack)
            _git(repository, "cat-file", "-e", f"{commit}:{below.strip('/')}")
        except DataError as error:
            raise IntegrityError(
                f"the stored code is not that of commit {commit[:12]}: {error.what}",
                where=str(files.fs.unstrip_protocol(path)),
                fix="ask MLOps to restart the team's DAG processor, which publishes it again",
            ) from None
        return unpack(pack_commit(repository, commit, below=below), versions, commit)


def _path_in_commit(below: str) -> str:
    """Returns the path of a folder's pack. The team's folder may be another one later, at the same commit."""
    return "/".join(filter(None, (*below.split("/"), "objects.pack")))


def _git(repository: Path, *arguments: str, given: bytes = b"") -> bytes:
    done = subprocess.run(
        ["git", "-C", str(repository), *arguments],
        input=given, capture_output=True, check=False, timeout=GIT_SECONDS,
    )  # fmt: skip
    if done.returncode:
        raise DataError(f"git {arguments[0]}: {done.stderr.decode(errors='replace').strip()[-300:]}")
    return done.stdout

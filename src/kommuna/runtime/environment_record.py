"""Records what a step runs with: the bundle's commit and files, its documents, the libraries, the processor."""

from __future__ import annotations

import gzip
import io
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from kommuna.spec.step import StepSpec
from kommuna.store import Store
from kommuna.store.digests import file_digest
from kommuna.store.distributions import SHARED_STEPS, installed
from kommuna.store.inputs import Inputs, LocalInput, LocalTree
from kommuna.store.manifest import Environment
from kommuna.store.uses import Uses

BUNDLE, INPUTS, REQUIREMENTS = "bundle", "inputs", "requirements.txt"
_LARGEST_FILE = 4 << 20  # bytes; larger files are data, which have no place in a bundle
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_CONTENT = re.compile(r"[0-9a-f]{64}\b")
_GIT_SECONDS = 10


def recorded(
    spec: StepSpec, store: Store, folder: Path, *, inputs: Inputs, local: Mapping[str, LocalTree], uses: Uses
) -> Environment:
    """Returns the environment of a step that has just run; stores the archive of its code.

    Data files are not copied: they are large, and hold what has not been masked yet.

    Args:
        spec: the step.
        store: the team's store.
        folder: the work folder.
        inputs: the step's inputs, as they were found.
        local: their local files.
        uses: what the step used.
    """
    files = {**dict(_bundle_files(spec, uses)), **dict(_documents(inputs, local))}
    contents = {name: path.read_bytes() for name, path in files.items()}
    contents[REQUIREMENTS] = requirements().encode()
    archive = folder / "code.tar.gz"
    with store.faults():
        archive.write_bytes(_archive(contents))
    commit, dirty = commit_of(spec.bundle)
    return Environment(
        resources=spec.resources,
        commit=commit,
        dirty=dirty,
        processor=processor(),
        code=store.put(archive, kind="code", suffix=".tar.gz"),
    )


def commit_of(bundle: str) -> tuple[str, bool]:
    """Returns the Git commit of a bundle's folder, and whether its files differ from it; empty without a repository.

    Args:
        bundle: the folder; a worker's has the name of its commit.
    """
    if not bundle:
        return "", False
    if _COMMIT.fullmatch(Path(bundle).name):
        return Path(bundle).name, False
    commit = _git(bundle, "rev-parse", "HEAD")
    if commit is None or not _COMMIT.fullmatch(commit):
        return "", False
    return commit, _git(bundle, "status", "--porcelain", "--", ".") != ""


@cache
def processor() -> str:
    """Returns the name of this machine's processor; empty where the kernel does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


@cache
def requirements() -> str:
    """Returns the installed libraries as a requirements file."""
    found = (f"{name}=={version}\n" for name, version in installed().items() if name != SHARED_STEPS)
    return "".join(sorted(found))


def _bundle_files(spec: StepSpec, uses: Uses) -> Iterator[tuple[str, Path]]:
    """Yields the files of the bundle that the step opened, unless they changed since."""
    for name, state in uses.files.items():
        path = Path(spec.bundle, name)
        if not spec.bundle or os.path.isabs(name) or not _CONTENT.match(state):  # noqa: PTH117
            continue
        if path.stat().st_size <= _LARGEST_FILE and file_digest(path) == state[:64]:
            yield f"{BUNDLE}/{name}", path


def _documents(inputs: Inputs, local: Mapping[str, LocalTree]) -> Iterator[tuple[str, Path]]:
    """Yields the inputs that are files of the bundle, or YAML documents from elsewhere."""
    given = [item for tree in local.values() for item in _items(tree)]
    for found, item in zip(inputs.flat().values(), given, strict=True):
        source = found.lineage.source
        if found.file is None or item.path is None:
            continue
        path = Path(item.path)
        is_code = "://" not in source and not Path(source).is_absolute()
        if not (is_code or path.suffix in (".yaml", ".yml")) or path.stat().st_size > _LARGEST_FILE:
            continue
        if file_digest(path) == found.bytes:
            yield f"{INPUTS}/{found.bytes}{path.suffix}", path


def _items(tree: LocalTree) -> list[LocalInput]:
    if isinstance(tree, LocalInput):
        return [tree]
    return list(tree.values()) if isinstance(tree, dict) else tree


def _archive(contents: Mapping[str, bytes]) -> bytes:
    """Packs files, so that equal files give equal bytes."""
    raw = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, content in sorted(contents.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return raw.getvalue()


def _git(folder: str, *arguments: str) -> str | None:
    """Returns git's output; None if it fails."""
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", folder, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_GIT_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None

"""Finds a step's inputs: checks them, fetches them to local files, and says where they came from."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kommuna.errors import (
    DataError,
    IntegrityError,
    KommunaError,
    SpecError,
    StepNotFound,
    StoreUnreachable,
    nearest,
)
from kommuna.outages import is_outage
from kommuna.spec.base import Spec
from kommuna.spec.step import ArtifactInput, FileInput, Input, ModelInput, StepSpec
from kommuna.spec.yaml_text import load_yaml
from kommuna.store.digests import NONE, file_digest
from kommuna.store.manifest import Artifact, Lineage, Manifest
from kommuna.store.store import Store

STORE_SCHEME = "store://"
_LARGEST_DOCUMENT = 4 << 20  # a longer YAML file is read by its bytes alone


class LocalInput(Spec):
    """An input's checked local file; `path` is None for an optional input that is absent."""

    path: str | None
    source: str


LocalTree = LocalInput | dict[str, LocalInput] | list[LocalInput]


class FoundFile(Spec):
    """A file that an operator found and read, which its step's runtime need not find again.

    Attributes:
        url: as the task names it.
        path: the local file, or what was downloaded of it.
        bytes: SHA-256 of its bytes.
        content: what counts of it, as in `Found`.
        stamp: device, inode, size and times of the local file before it was read.
        downloaded: whether it is a download, which nobody else has.
    """

    url: str
    path: str
    bytes: str
    content: str
    stamp: tuple[int, ...]
    downloaded: bool

    @property
    def is_unchanged(self) -> bool:
        """Whether the local file is still the one that was read."""
        return _stamp(Path(self.path)) == self.stamp


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        seen = path.stat()
    except OSError:
        return ()
    return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


@dataclass(frozen=True)
class Found:
    """One input before it is fetched.

    Args:
        bytes: SHA-256 of its bytes; `none` of an optional input that is absent.
        content: what counts: the same, or that of a YAML file's document, and the suffix.
        artifact: what a step left.
        file: what no step made.
        stamp: of the file, before it was read.
        downloaded: whether the file is a download, which nobody else has.
    """

    bytes: str
    content: str
    lineage: Lineage
    artifact: Artifact | None = None
    file: Path | None = None
    stamp: tuple[int, ...] = ()
    downloaded: bool = False

    def local(self, store: Store, folder: Path, name: str) -> LocalInput:
        """The input's checked local file: an artifact, which does not change, or a copy that nobody else has.

        Raises:
            InputChanged: the file is no longer the one that was found.
        """
        if self.artifact is not None:
            path: Path | None = store.fetch(self.artifact, folder)
        else:
            path = self._copy(folder, name) if self.file is not None else None
        return LocalInput(path=str(path) if path else None, source=self.lineage.source or str(path))

    def _copy(self, folder: Path, name: str) -> Path:
        assert self.file is not None
        target = folder / "inputs" / f"{name}{self.file.suffix}"
        target.parent.mkdir(exist_ok=True)
        if self.downloaded:
            shutil.move(self.file, target)
            return target
        try:
            shutil.copyfile(self.file, target)
        except FileNotFoundError:
            raise InputChanged(self.lineage.source) from None
        if file_digest(target) != self.bytes:
            raise InputChanged(self.lineage.source)
        return target


class InputChanged(Exception):
    """A file was replaced after it was found."""


FoundTree = Found | dict[str, Found] | list[Found]


@dataclass
class Inputs:
    """All inputs of one step."""

    trees: dict[str, FoundTree]

    def contents(self) -> dict[str, Any]:
        """Input name to what counts of it, in the shape of the inputs."""
        return {name: _map(tree, lambda found: found.content) for name, tree in self.trees.items()}

    def flat(self) -> dict[str, Found]:
        """Every single input; those inside a dict or list as `name.part`."""
        out: dict[str, Found] = {}
        for name, tree in self.trees.items():
            if isinstance(tree, Found):
                out[name] = tree
            else:
                parts = tree.items() if isinstance(tree, dict) else enumerate(tree)
                out.update({f"{name}.{part}": found for part, found in parts})
        return out

    def files(self) -> list[FoundFile]:
        """The files among them, to be handed to the step's runtime."""
        return [
            FoundFile(
                url=found.lineage.source,
                path=str(found.file),
                bytes=found.bytes,
                content=found.content,
                stamp=found.stamp,
                downloaded=found.downloaded,
            )
            for found in self.flat().values()
            if found.file is not None
        ]

    def local(self, store: Store, folder: Path) -> dict[str, LocalTree]:
        """Local files of all inputs, in the shape of the inputs.

        Raises:
            InputChanged: a file is no longer the one that was found.
        """
        names = iter(self.flat())  # in the very order in which the trees are walked
        return {
            name: _map(tree, lambda found: found.local(store, folder, next(names))) for name, tree in self.trees.items()
        }


def find_inputs(spec: StepSpec, store: Store, folder: Path, *, known: Sequence[FoundFile] = ()) -> Inputs:
    """Finds every input of a step.

    Args:
        spec: the step.
        store: its team's store.
        folder: where remote files are downloaded to.
        known: files that the step's operator found; one that changed since is found again.

    Raises:
        DataError: a file is missing.
        IntegrityError: an artifact or its manifest is gone.
        RegistryError: the registry is unreachable, or has no such model.
    """
    inputs = Inputs({})
    files = {file.url: file for file in known}

    def one(name: str, wanted: Input | None) -> Found:
        if wanted is None:
            return _none(name)
        if isinstance(wanted, FileInput):
            file = files.pop(wanted.url, None)  # a download is one input's
            return _known(name, file) if file and file.is_unchanged else _file(name, wanted, spec, store, folder)
        if isinstance(wanted, ModelInput):
            return _model(name, wanted, spec, store)
        return _artifact(name, wanted, store)

    for name, tree in spec.inputs.items():
        inputs.trees[name] = _map(tree, lambda wanted, name=name: one(name, wanted))
    return inputs


def _map(tree: Any, change: Any) -> Any:
    if isinstance(tree, dict):
        return {name: change(item) for name, item in tree.items()}
    if isinstance(tree, list):
        return [change(item) for item in tree]
    return change(tree)


def _none(name: str, source: str = "") -> Found:
    return Found(NONE, NONE, Lineage(input=name, digest=NONE, source=source))


def _made(name: str, manifest: Manifest, output: str, source: str = "") -> Found:
    artifact = manifest.outputs[output]
    lineage = Lineage(input=name, digest=artifact.digest, manifest=manifest.key, output=output, source=source)
    return Found(artifact.digest, artifact.filename, lineage, artifact=artifact)


def _artifact(name: str, wanted: ArtifactInput, store: Store) -> Found:
    manifest = store.manifest(wanted.manifest)
    if manifest is None:
        raise IntegrityError(
            f"input '{name}': the manifest {wanted.manifest[:12]} or one of its artifacts is gone from the store",
            where=store.manifest_url(wanted.manifest),
            fix="clear the upstream task: it will make them again",
        )
    if wanted.output not in manifest.outputs:
        raise StepNotFound(
            f"input '{name}': step {manifest.function} left no output '{wanted.output}'"
            f"{nearest(wanted.output, manifest.outputs)}",
            fix=f"its outputs are: {', '.join(manifest.outputs)}",
        )
    found = _made(name, manifest, wanted.output)
    if wanted.digest is not None and wanted.digest != found.bytes:
        raise IntegrityError(
            f"input '{name}': output '{wanted.output}' of the manifest {wanted.manifest[:12]} is not what the upstream "
            f"task left: {found.bytes[:12]} instead of {wanted.digest[:12]}",
            where=store.manifest_url(wanted.manifest),
            fix="clear the upstream task: it will make it again",
        )
    return found


def _known(name: str, file: FoundFile) -> Found:
    lineage = Lineage(input=name, digest=file.bytes, source=file.url)
    return Found(file.bytes, file.content, lineage, file=Path(file.path), stamp=file.stamp, downloaded=file.downloaded)


def _file(name: str, wanted: FileInput, spec: StepSpec, store: Store, folder: Path) -> Found:
    path = _local_file(name, wanted, spec, store, folder)
    if not os.path.isfile(path):  # noqa: PTH113  # False of a name that no file system takes
        what = "is a folder, not a file" if os.path.isdir(path) else "does not exist"  # noqa: PTH112
        raise DataError(
            f"input '{name}': {wanted.url} {what}",
            where=str(path),
            fix="a plain path is relative to the team's bundle, store://… to the team's prefix in the store",
        )
    stamp = _stamp(path)
    digest = file_digest(path)
    content = f"{_document_digest(path) or digest}{path.suffix}"
    lineage = Lineage(input=name, digest=digest, source=wanted.url)
    return Found(digest, content, lineage, file=path, stamp=stamp, downloaded=path.is_relative_to(folder))


def _document_digest(path: Path) -> str:
    """SHA-256 of what a YAML file says, whatever its comments and layout; empty where it is no plain YAML."""
    if path.suffix not in (".yaml", ".yml") or path.stat().st_size > _LARGEST_DOCUMENT:
        return ""
    try:
        document = load_yaml(path.read_text(encoding="utf-8"), path, traps=True)
    except (KommunaError, OSError, UnicodeDecodeError):
        return ""
    return hashlib.sha256(repr(document).encode("utf-8", "surrogatepass")).hexdigest()


def _local_file(name: str, wanted: FileInput, spec: StepSpec, store: Store, folder: Path) -> Path:
    if wanted.url.startswith(STORE_SCHEME):
        return store.inbox_file(wanted.url.removeprefix(STORE_SCHEME), folder)
    if "://" not in wanted.url:
        return Path(spec.bundle or ".", wanted.url)
    import fsspec

    try:
        fs, path = fsspec.core.url_to_fs(wanted.url)
        if "file" in fs.protocol:
            return Path(path)
        target = folder / f"{name}-{Path(path).name}"
        fs.get_file(path, str(target))
    except FileNotFoundError:
        raise DataError(f"input '{name}': {wanted.url} does not exist", fix="check the URL") from None
    except Exception as error:  # a URL may name any of fsspec's file systems, whose errors share no base
        said = f"input '{name}': {wanted.url} cannot be read: {type(error).__name__}: {error}"
        if is_outage(error):
            raise StoreUnreachable(said, fix="check that its server is up, and the URL") from None
        raise DataError(
            said, fix="check the URL and its rights; a file of the team's is best put into store://inbox"
        ) from None
    return target


def _model(name: str, wanted: ModelInput, spec: StepSpec, store: Store) -> Found:
    from kommuna.clients.mlflow import MlflowApi  # which imports requests

    version = MlflowApi.from_services(spec.services).by_alias(wanted.model, wanted.alias)
    if version is None:
        if wanted.optional:
            return _none(name, f"no {wanted.alias} of {wanted.model}")
        raise SpecError(
            f"model '{wanted.model}' has no {wanted.alias} yet",
            where=f"{spec.services.mlflow} workspace {spec.services.workspace}",
            fix=f"the {wanted.alias} is set by promote, when the gate holds: see the evaluation report",
        )
    tags = {tag["key"]: tag["value"] for tag in version.get("tags", [])}
    if wanted.unless is not None and _artifact(name, wanted.unless, store).bytes == tags.get("kommuna.model_digest"):
        return _none(name, f"the {wanted.alias} is that very model")
    source = f"{wanted.model} v{version['version']} ({wanted.alias})"
    manifest = store.manifest(tags.get("kommuna.manifest", ""))
    digest = tags.get("kommuna.model_digest", "")
    for output, artifact in (manifest.outputs if manifest else {}).items():
        if manifest and artifact.digest == digest:
            return _made(name, manifest, output, source)
    raise IntegrityError(
        f"input '{name}': {source} has no artifact in the store",
        where=store.address.url,
        fix="register the model by the register step, and do not remove what it refers to",
    )

"""Finds a step's inputs: checks them, fetches them to local files, and records where they came from."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
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
from kommuna.spec.step import ArtifactInput, FileInput, Input, ModelInput, Services, StepSpec
from kommuna.spec.yaml_text import load_yaml
from kommuna.store.digests import NONE, file_digest
from kommuna.store.manifest import Artifact, Lineage, Manifest
from kommuna.store.store import Store

STORE_SCHEME = "store://"
MLFLOW_SUFFIX = ".mlflow"  # of a folder with the files of a model that Kommuna did not register
_LARGEST_DOCUMENT = 4 << 20  # of a longer YAML file only the bytes are compared


class LocalInput(Spec):
    """An input's checked local file.

    Attributes:
        path: the file; None for an optional input that is absent.
        source: its name as the user wrote it.
        made: whether it is an artifact, which a manifest of the team names by its digest.
    """

    path: str | None
    source: str
    made: bool = False


LocalTree = LocalInput | dict[str, LocalInput] | list[LocalInput]


class FoundFile(Spec):
    """A file that an operator found and read, so that the step's runtime need not find it again.

    Attributes:
        url: the URL or path that the task gives.
        path: the local file, or the download of a remote one.
        bytes: SHA-256 of its bytes.
        content: digest of its content, as in `FoundInput`.
        stamp: device, inode, size and times of the local file before it was read.
        downloaded: whether it is a download, which no other process uses.
    """

    url: str
    path: str
    bytes: str
    content: str
    stamp: tuple[int, ...]
    downloaded: bool

    @property
    def is_unchanged(self) -> bool:
        """Whether the local file is unchanged since it was read."""
        return _stamp(Path(self.path)) == self.stamp


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        seen = path.stat()
    except OSError:
        return ()
    return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


@dataclass(frozen=True)
class RegisteredFiles:
    """The files of a registered model that the store does not have: its artifact is gone, or no step of ours made it.

    Args:
        services: the team's services.
        name: the registered model.
        version: the version's number.
        digest: the digest of the artifact; empty if Kommuna did not register the model.
    """

    services: Services
    name: str
    version: str
    digest: str

    @property
    def suffix(self) -> str:
        """The suffix of the local file; of a folder with MLflow's files for a model from elsewhere."""
        return ".model" if self.digest else MLFLOW_SUFFIX

    @staticmethod
    def identity(version: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """Returns what the version is known by."""
        from kommuna.clients.mlflow import identity_of  # imports requests

        return identity_of(tags, version.get("source"), version.get("run_id"), version.get("creation_timestamp"))

    def fetch(self, target: Path) -> Path:
        """Downloads the model; of one that Kommuna registered only its artifact, which must have its digest.

        Raises:
            RegistryError: MLflow refuses or does not answer.
            IntegrityError: MLflow has no such artifact.
        """
        from kommuna.clients.mlflow import MlflowApi  # imports requests

        folder = target.with_name(f"{target.name}{MLFLOW_SUFFIX}")
        MlflowApi.from_services(self.services).download(self.name, self.version, folder)
        if not self.digest:
            return folder
        for file in folder.rglob("*"):
            if file.is_file() and file_digest(file) == self.digest:
                return file.rename(target.with_name(f"{target.name}{self.suffix}"))
        raise IntegrityError(
            f"the artifact of {self.name} version {self.version} is gone from the store, and MLflow has no copy of it",
            where=self.services.mlflow,
            fix="make another version the champion: `kommuna models list`, then `kommuna models pin`",
        )


@dataclass(frozen=True)
class FoundInput:
    """One input before it is fetched.

    Args:
        bytes: SHA-256 of its bytes; `none` for an optional input that is absent.
        content: the digest that the cache compares: of the bytes, or of a YAML file's document, with the suffix.
        lineage: the origin of the input.
        artifact: the artifact, if a step made it.
        file: the file, if no step made it.
        stamp: device, inode, size and times of the file before it was read.
        downloaded: whether the file is a download, which no other process uses.
        registered: the model in the registry, if the store does not have it.
    """

    bytes: str
    content: str
    lineage: Lineage
    artifact: Artifact | None = None
    file: Path | None = None
    stamp: tuple[int, ...] = ()
    downloaded: bool = False
    registered: RegisteredFiles | None = None

    def local(self, store: Store, folder: Path, name: str) -> LocalInput:
        """Returns the input's checked local file: an artifact, which is immutable, or a private copy of a file.

        Args:
            store: the team's store.
            folder: where artifacts are downloaded to, and files are copied to.
            name: the name of the copy.

        Raises:
            InputChanged: the file has changed since it was found.
        """
        if self.artifact is not None:
            path: Path | None = store.fetch(self.artifact, folder)
        elif self.registered is not None:
            path = self.registered.fetch(folder / "inputs" / name)
        else:
            path = self._copy(folder, name) if self.file is not None else None
        source = self.lineage.source or str(path)
        return LocalInput(path=str(path) if path else None, source=source, made=self.is_made)

    @property
    def is_made(self) -> bool:
        """Whether a step made it, or the team's registry has it."""
        return self.artifact is not None or self.registered is not None

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


FoundTree = FoundInput | dict[str, FoundInput] | list[FoundInput]


@dataclass
class Inputs:
    """All inputs of one step."""

    trees: dict[str, FoundTree]

    def contents(self) -> dict[str, Any]:
        """Returns the content digest of each input, nested like the inputs."""
        return {name: _map(tree, lambda found: found.content) for name, tree in self.trees.items()}

    def flat(self) -> dict[str, FoundInput]:
        """Returns every single input by name; those inside a dict or list as `name.part`."""
        out: dict[str, FoundInput] = {}
        for name, tree in self.trees.items():
            if isinstance(tree, FoundInput):
                out[name] = tree
            else:
                parts = tree.items() if isinstance(tree, dict) else enumerate(tree)
                out.update({f"{name}.{part}": found for part, found in parts})
        return out

    def files(self) -> list[FoundFile]:
        """Returns the inputs that are files, to be passed to the step's runtime."""
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
        """Returns the local files of all inputs, nested like the inputs.

        Raises:
            InputChanged: a file has changed since it was found.
        """
        names = iter(self.flat())  # in the order in which the trees are walked
        return {
            name: _map(tree, lambda found: found.local(store, folder, next(names))) for name, tree in self.trees.items()
        }


def find_inputs(spec: StepSpec, store: Store, folder: Path, *, known: Sequence[FoundFile] = ()) -> Inputs:
    """Finds every input of a step.

    Args:
        spec: the step.
        store: the team's store.
        folder: where remote files are downloaded to.
        known: files that the step's operator found; one that has changed since is found again.

    Raises:
        DataError: a file is missing.
        IntegrityError: an artifact or its manifest is gone.
        RegistryError: the registry is unreachable, or has no such model.
    """
    inputs = Inputs({})
    files = {file.url: file for file in known}

    def one(name: str, wanted: Input | None) -> FoundInput:
        if wanted is None:
            return _none(name)
        if isinstance(wanted, FileInput):
            file = files.pop(wanted.url, None)  # each download belongs to one input
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


def _none(name: str, source: str = "") -> FoundInput:
    return FoundInput(NONE, NONE, Lineage(input=name, digest=NONE, source=source))


def _made(name: str, manifest: Manifest, output: str, source: str = "") -> FoundInput:
    artifact = manifest.outputs[output]
    lineage = Lineage(input=name, digest=artifact.digest, manifest=manifest.key, output=output, source=source)
    return FoundInput(artifact.digest, artifact.filename, lineage, artifact=artifact)


def _artifact(name: str, wanted: ArtifactInput, store: Store) -> FoundInput:
    manifest = store.manifest(wanted.manifest)
    if manifest is None:
        raise IntegrityError(
            f"input '{name}': the manifest {wanted.manifest[:12]} or one of its artifacts is gone from the store",
            where=store.manifest_url(wanted.manifest),
            fix="clear the upstream task, so that it runs again",
        )
    if wanted.output not in manifest.outputs:
        raise StepNotFound(
            f"input '{name}': step {manifest.function} has no output '{wanted.output}'"
            f"{nearest(wanted.output, manifest.outputs)}",
            fix=f"its outputs are: {', '.join(manifest.outputs)}",
        )
    found = _made(name, manifest, wanted.output)
    if wanted.digest is not None and wanted.digest != found.bytes:
        raise IntegrityError(
            f"input '{name}': output '{wanted.output}' of the manifest {wanted.manifest[:12]} is not what the upstream "
            f"task produced: {found.bytes[:12]} instead of {wanted.digest[:12]}",
            where=store.manifest_url(wanted.manifest),
            fix="clear the upstream task, so that it runs again",
        )
    return found


def _known(name: str, file: FoundFile) -> FoundInput:
    lineage = Lineage(input=name, digest=file.bytes, source=file.url)
    return FoundInput(
        file.bytes, file.content, lineage, file=Path(file.path), stamp=file.stamp, downloaded=file.downloaded
    )


def _file(name: str, wanted: FileInput, spec: StepSpec, store: Store, folder: Path) -> FoundInput:
    path = _local_file(name, wanted, spec, store, folder)
    if not os.path.isfile(path):  # noqa: PTH113  # False for a name that no file system accepts
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
    return FoundInput(digest, content, lineage, file=path, stamp=stamp, downloaded=path.is_relative_to(folder))


def _document_digest(path: Path) -> str:
    """Returns the SHA-256 of a YAML file's document, without comments and layout; empty if it is not plain YAML."""
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
    except Exception as error:  # any of fsspec's file systems, whose errors have no common base class
        what = f"input '{name}': {wanted.url} cannot be read: {type(error).__name__}: {error}"
        if is_outage(error):
            raise StoreUnreachable(what, fix="check that its server is up, and the URL") from None
        raise DataError(what, fix="check the URL and its rights; put the team's own files into store://inbox") from None
    return target


def _model(name: str, wanted: ModelInput, spec: StepSpec, store: Store) -> FoundInput:
    from kommuna.clients.mlflow import MlflowApi  # imports requests

    registry = MlflowApi.from_services(spec.services)
    version = registry.by_alias(wanted.model, wanted.alias)
    if version is None:
        if wanted.optional:
            return _none(name, f"no {wanted.alias} of {wanted.model}")
        latest = registry.by_alias(wanted.model, "challenger") or {}
        said = _tags(latest).get("kommuna.reason", "")
        raise SpecError(
            f"model '{wanted.model}' has no {wanted.alias} yet"
            + (f"; version {latest['version']} did not become it: {said}" if said else ""),
            where=f"{spec.services.mlflow} workspace {spec.services.workspace}",
            fix=f"the {wanted.alias} is set by promote, when the gate holds: see the evaluation report",
        )
    tags = _tags(version)
    if wanted.unless is not None and _artifact(name, wanted.unless, store).bytes == tags.get("kommuna.model_digest"):
        return _none(name, f"the {wanted.alias} is this model")
    source = f"{wanted.model} v{version['version']} ({wanted.alias})"
    manifest = store.manifest(tags.get("kommuna.manifest", ""))
    digest = tags.get("kommuna.model_digest", "")
    for output, artifact in (manifest.outputs if manifest else {}).items():
        if manifest and artifact.digest == digest:
            return _made(name, manifest, output, source)
    files = RegisteredFiles(spec.services, wanted.model, str(version["version"]), digest)
    lineage = Lineage(input=name, digest=digest or files.identity(version, tags), source=source)
    return FoundInput(lineage.digest, f"{lineage.digest}{files.suffix}", lineage, registered=files)


def _tags(version: Mapping[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in version.get("tags", [])}

"""`Store`: one team's artifacts and manifests on an fsspec file system."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import structlog
from pydantic import ValidationError

from kommuna.errors import IntegrityError, StoreError
from kommuna.store.digests import content_digest, file_digest
from kommuna.store.files import TeamFiles, changed
from kommuna.store.manifest import Artifact, Kind, Manifest

log = structlog.get_logger()


class Store(TeamFiles):
    """One team's part of the artifact store.

    Args:
        address: `file://` or any other fsspec URL, with the file system's options.
        team: the team whose prefix this store reads and writes.

    >>> from kommuna.spec.step import StoreAddress
    >>> store = Store(StoreAddress(url="memory://demo"), "support")
    >>> store.manifest("0" * 64) is None
    True
    """

    def manifest(self, key: str) -> Manifest | None:
        """Returns the manifest of a key; None if it is missing or damaged, or if an artifact is missing."""
        manifest = self.record(key)
        return manifest if manifest is not None and self.is_complete(manifest) else None

    def record(self, key: str) -> Manifest | None:
        """Returns the manifest of a key, also if its artifacts are gone; None if it is missing or damaged."""
        with self.faults():
            try:
                raw = self.fs.cat_file(self._manifest_path(key))
            except (FileNotFoundError, IsADirectoryError):
                return None
        try:
            manifest = Manifest.model_validate_json(raw)
        except ValidationError:
            log.warning("store.file_damaged", path=self._manifest_path(key), hint="treated as missing")
            return None
        return manifest if (manifest.key, manifest.team) == (key, self.team) else None

    def is_complete(self, manifest: Manifest) -> bool:
        """Whether all artifacts of a manifest exist."""
        return all(self.has(artifact) for artifact in (*manifest.outputs.values(), *manifest.plans.values()))

    def write_manifest(self, manifest: Manifest) -> None:
        """Writes a manifest atomically, which makes the step's outputs visible."""
        self.write(self._manifest_path(manifest.key), manifest.model_dump_json(indent=1).encode())

    def manifests(self) -> Iterator[Manifest]:
        """Iterates over the team's complete manifests."""
        return (manifest for manifest in self.records() if self.is_complete(manifest))

    def records(self) -> Iterator[Manifest]:
        """Iterates over the team's manifests, also those whose artifacts are gone."""
        for path in self.find("manifests"):
            if path.endswith(".json") and not path.rsplit("/", 1)[1].startswith("."):
                manifest = self.record(path.rsplit("/", 1)[1].removesuffix(".json"))
                if manifest is not None:
                    yield manifest

    def record_use(self, key: str) -> None:
        """Updates a manifest's time of last use, so that `gc` keeps reused results."""
        path = self._manifest_path(key)
        try:
            with self.faults():
                if self.is_local:
                    os.utime(path)
                else:  # writing an object updates its date
                    self.fs.pipe_file(path, self.fs.cat_file(path))
        except StoreError as error:
            log.warning("manifest.use_not_recorded", key=key[:12], reason=error.what)

    def last_use(self, key: str) -> datetime | None:
        """Returns when a manifest was written or last reused; None if it is missing."""
        with self.faults():
            try:
                self.fs.invalidate_cache()
                return changed(self.fs.info(self._manifest_path(key)))
            except FileNotFoundError:
                return None

    def remove_manifest(self, key: str) -> None:
        """Removes a manifest; its artifacts stay until `gc` finds that nothing refers to them."""
        with self.faults(), contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self._manifest_path(key))

    def put(self, path: Path, *, kind: Kind, suffix: str, rows: int | None = None) -> Artifact:
        """Moves a local file into the store under the digest of its content; replaces a damaged artifact.

        Args:
            path: the file; it is gone afterwards.
            kind: what it holds.
            suffix: the extension of its name in the store, with the dot.
            rows: the number of rows of a table.

        Raises:
            StoreError: the store is full, read-only or unreachable; no partial file is visible.
        """
        with self.faults():
            artifact = Artifact(
                kind=kind, digest=file_digest(path), suffix=suffix, bytes=path.stat().st_size, rows=rows
            )
            target = self._artifact_path(artifact)
            if self.intact(artifact):
                path.unlink()
            elif self.is_local:
                Path(target).parent.mkdir(parents=True, exist_ok=True)
                path.chmod(0o444)
                with path.open("rb") as file:
                    os.fsync(file.fileno())
                path.replace(target)
            else:
                self.fs.put_file(str(path), target)
                path.unlink()
            return artifact.model_copy(update={"etag": self._etag(artifact)})

    def has(self, artifact: Artifact) -> bool:
        """Whether the artifact exists with its full size."""
        with self.faults():
            try:
                return bool(self.fs.size(self._artifact_path(artifact)) == artifact.bytes)
            except FileNotFoundError:
                return False

    def intact(self, artifact: Artifact) -> bool:
        """Whether the artifact exists and its content matches its digest. Reads all of it."""
        if not self.has(artifact):
            return False
        with self.faults():
            try:
                return self._digest(self._artifact_path(artifact)) == artifact.digest
            except FileNotFoundError:
                return False

    def is_whole(self, manifest: Manifest) -> bool:
        """Whether every artifact of a manifest is intact; removes damaged ones.

        The content is hashed, which takes a thirtieth of the time that Polars takes to read the same Parquet file. An
        object of a remote store is read only if its ETag has changed since it was written.
        """
        damaged = [a for a in manifest.outputs.values() if not self._as_written(a) and not self.intact(a)]
        for artifact in damaged:
            self.discard(artifact)
        return not damaged

    def _as_written(self, artifact: Artifact) -> bool:
        """Whether an object still has the ETag that it had when it was written."""
        with self.faults():
            try:
                return artifact.etag != "" and self._etag(artifact) == artifact.etag
            except FileNotFoundError:
                return False

    def _etag(self, artifact: Artifact) -> str:
        """Returns an object's ETag; empty on a file system without ETags."""
        if self.is_local:
            return ""
        path = self._artifact_path(artifact)
        self.fs.invalidate_cache(path)
        info = self.fs.info(path)
        return str(info.get("ETag") or info.get("etag") or "")

    def discard(self, artifact: Artifact) -> bool:
        """Removes a damaged artifact, so that its step is no longer a cache hit; False if the store refuses it."""
        log.warning("artifact.damaged", artifact=artifact.filename[:12], url=self.url(artifact))
        try:
            with self.faults(), contextlib.suppress(FileNotFoundError):
                self.fs.rm_file(self._artifact_path(artifact))
        except StoreError:
            return False
        return True

    def fetch(self, artifact: Artifact, folder: Path) -> Path:
        """Returns a local path of an artifact with verified content.

        Args:
            artifact: the artifact.
            folder: where a remote artifact is downloaded to.

        Raises:
            IntegrityError: the content does not match the digest.
        """
        source = self._artifact_path(artifact)
        with self.faults():
            try:
                path = Path(source) if self.is_local else folder / artifact.filename
                if not self.is_local and not path.exists():
                    self._download(source, path, artifact.digest)
                found = file_digest(path)
            except FileNotFoundError:
                raise IntegrityError(
                    f"artifact {artifact.filename} is gone from the store",
                    where=self.url(artifact),
                    fix="run the step that made it again: its result is no longer a cache hit",
                ) from None
        if found != artifact.digest:
            removed = self.discard(artifact)
            raise IntegrityError(
                f"artifact {artifact.digest[:12]} was changed in the store: its bytes have the digest {found[:12]}",
                where=self.url(artifact),
                fix=f"{'it has been removed' if removed else 'remove the file'}; run the step that made it again",
            )
        return path

    def _download(self, source: str, path: Path, digest: str) -> None:
        """Downloads a remote file, and retries once if the content does not match the digest."""
        partial = path.with_name(f"{path.name}.partial")  # so that a download cut off by an outage is not used later
        for _ in range(2):
            self.fs.get_file(source, str(partial))
            if file_digest(partial) == digest:
                break
        partial.replace(path)

    def read(self, artifact: Artifact) -> bytes:
        """Returns the verified content of a small artifact (a report, a JSON document)."""
        with tempfile.TemporaryDirectory() as folder:
            return self.fetch(artifact, Path(folder)).read_bytes()

    def artifacts(self) -> Iterator[tuple[str, int, float]]:
        """Yields the path, bytes and age in seconds of every artifact file of the team."""
        import time

        now = time.time()
        with self.faults():
            for path in self.find("artifacts"):
                info = self.fs.info(path)
                yield path, int(info["size"]), now - changed(info).timestamp()

    def remove_file(self, path: str) -> None:
        """Removes one artifact file by its path from `artifacts`."""
        if not path.startswith(f"{self.root}/artifacts/"):
            raise StoreError(f"{path} is not an artifact of team {self.team}")
        with self.faults():
            self.fs.rm_file(path)

    def url(self, artifact: Artifact) -> str:
        """Returns the URL of an artifact."""
        return str(self.fs.unstrip_protocol(self._artifact_path(artifact)))

    def manifest_url(self, key: str) -> str:
        """Returns the URL of a manifest."""
        return str(self.fs.unstrip_protocol(self._manifest_path(key)))

    def _manifest_path(self, key: str) -> str:
        return f"{self.root}/manifests/{key[:2]}/{key}.json"

    def _artifact_path(self, artifact: Artifact) -> str:
        return f"{self.root}/artifacts/{artifact.digest[:2]}/{artifact.filename}"

    def _digest(self, path: str) -> str:
        """Returns the SHA-256 of a file of the store."""
        with self.fs.open(path, "rb") as file:
            return content_digest(file)
